"""`python -m experiments` lists the commands; `python -m experiments NAME …` runs one."""

from experiments.common.dispatch import main

if __name__ == "__main__":
    main("python -m experiments")
