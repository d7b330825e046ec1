_vtd() {
  local command=${words[2]//-/_} before=${words[CURRENT-1]} file=1
  local -a found
  if ((CURRENT == 2)); then
    found=("${(@f)$(__vtd_commands)}")
    _describe -t commands 'command of vtd' found
    compadd -- --help --version
    return
  elif [[ $PREFIX == --*=* ]]; then
    before=${PREFIX%%=*}
    compset -P 1 '*='
    found=($(__vtd_values $command ${before#--}))
  elif [[ $PREFIX == --config.* ]]; then
    found=($(__vtd_fields)) file=0
  elif [[ $PREFIX == -* ]]; then
    found=($(__vtd_flags $command)) file=0
  elif [[ ($before == --config.* && $before != *=*) || " $(__vtd_flags $command) " == *" $before= "* ]]; then
    found=($(__vtd_values $command ${before#--}))
  else
    found=($(__vtd_values $command $((CURRENT - 2))))
  fi
  # a value follows what ends in =
  compadd -S '' -- ${(M)found:#*=}
  compadd -- ${found:#*=}
  ((file)) && _files
}
compdef _vtd vtd
