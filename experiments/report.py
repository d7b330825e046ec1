"""Makes the report of videos, a page for each and an index, to open in a browser.

Examples:
  python -m experiments.report --model=ViT-B/16 --video=clip.mp4 --labels='arm wrestling,hugging'
  python -m experiments.report --model=runs/hmdb51 --video='clips/**/*.mp4' --report=pages
  python -m experiments.report --model=ViT-B-16.pt --video=match.mp4 --labels=labels.txt --window=8

The same as experiments.predict, which has every other output too, with --report=report unless
another folder is given. The same command resumes after an interruption.
"""

from absl import flags

from experiments.common import cli
from experiments.predict import __main__ as predict

flags.adopt_module_key_flags(predict)
flags.FLAGS.set_default("report", "report")

if __name__ == "__main__":
    cli.run(predict.main, __doc__, device=True)
