_vtd() {
  local line=${COMP_LINE:0:COMP_POINT} command=${COMP_WORDS[1]//-/_}
  # bash also splits words at =, : and @
  local word=${line##*[[:space:]]} before=${COMP_WORDS[COMP_CWORD - 1]} words="" break
  if ((COMP_CWORD == 1)); then
    words=$(__vtd_commands | cut -d: -f1)" --help --version"
  elif [[ $word == --*=* ]]; then
    before=${word%%=*}
    word=${word#*=}
    words=$(__vtd_values "$command" "${before#--}")
  elif [[ $word == --config.* ]]; then
    words=$(__vtd_fields)
  elif [[ $word == -* ]]; then
    words=$(__vtd_flags "$command")
  elif [[ $before == --config.* || " $(__vtd_flags "$command") " == *" $before= "* ]]; then
    words=$(__vtd_values "$command" "${before#--}")
  else
    words=$(__vtd_values "$command" "$((COMP_CWORD - 1))")
  fi
  # without words for it, readline completes files (-o default)
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  # readline replaces only what follows the last of these, and @ with what follows it
  for break in = :; do
    if [[ $COMP_WORDBREAKS == *"$break"* && $word == *"$break"* ]]; then
      COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*"$break"}"}"}")
      word=${word##*"$break"}
    fi
  done
  if [[ $COMP_WORDBREAKS == *@* && $word == *@* ]]; then
    COMPREPLY=("${COMPREPLY[@]#"${word%@*}"}")
  fi
  if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
    compopt -o nospace 2>/dev/null
  fi
}
complete -o default -F _vtd vtd
