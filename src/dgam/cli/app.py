"""What commands there are; none of them is imported before it is called."""

from __future__ import annotations

from cyclopts import App, Parameter

import dgam

HELP = """\
Find when actions happen in long videos, after training on video labels alone.

The model is DGAM (Shi et al., CVPR 2020). Snippet features and a list of
labels for each video go in; segments with labels and scores come out.
"dgam demo" shows the whole of it on simulated data in a minute or two."""

EPILOGUE = """\
With features of your own, from training to mAP:

  dgam check FEATURES --labels labels.csv
  dgam train FEATURES --labels labels.csv --subset train --out RUN
  dgam localize RUN FEATURES --out detections.json
  dgam evaluate detections.json --ground-truth gt.json --subset test

"dgam COMMAND --help" explains a command, "dgam info settings" every setting.
Exit codes: 0 done, 1 a fault of dgam (--debug shows where), 2 wrong usage or
input, 130 interrupted."""

# command: (where it is defined, its line in the list), in the order of use
COMMANDS = {
    "simulate": ("dgam.cli.simulate:simulate", "Write a simulated data set, to try things on."),
    "extract": ("dgam.cli.extract:extract", "Turn videos into snippet features."),
    "weights": ("dgam.cli.weights:weights", "Download the published I3D weights, or check weights."),
    "import": ("dgam.cli.import_:import_", "Copy features of any known layout into a feature store."),
    "check": ("dgam.cli.check:check", "Look for defects in features, labels and annotations."),
    "fit": ("dgam.cli.fit:fit", "Train on your own videos and a list of what happens in each."),
    "train": ("dgam.cli.train:train", "Train on video labels, one model for each stream."),
    "localize": ("dgam.cli.localize:localize", "Find segments in videos with a trained model."),
    "export": ("dgam.cli.export:export", "Write detections as subtitles, tables, clips, for other tools."),
    "live": ("dgam.cli.live:live", "Watch a camera or a stream (a trial)."),
    "evaluate": ("dgam.cli.evaluate:evaluate", "Compute mAP and its analysis against ground truth."),
    "explain": ("dgam.cli.explain:explain", "Say why a detection has its score."),
    "report": ("dgam.cli.report:report", "Write a report of a run as one HTML page."),
    "serve": ("dgam.cli.serve:serve", "Serve a web page to localise videos and correct the results."),
    "reproduce": ("dgam.cli.reproduce:reproduce", "Repeat the paper's tables, or an experiment of your own."),
    "search": ("dgam.cli.search:search", "Search for settings on half of the test videos."),
    "demo": ("dgam.cli.demo:demo", "See all of it work on simulated data, in a minute or two."),
    "info": ("dgam.cli.info:info", "Show versions and settings, or describe a run or features."),
}


def build_app(called: str = "") -> App:
    """The command line's parser. The help of ``called`` is Markdown, taken from its docstring.

    Where a command is a group of commands, its module offers an App.
    """
    app = App(
        name="dgam",
        version=dgam.__version__,
        help=HELP,
        help_format="markdown" if called else "plaintext",
        help_epilogue="" if called else EPILOGUE,
        default_parameter=Parameter(negative=()),
        suppress_keyboard_interrupt=False,
    )
    for order, (name, (path, line)) in enumerate(COMMANDS.items()):
        # A line given here saves importing the command for the list, but would also replace its docstring.
        shown = None if name == called else line
        app.command(path, name=name, help=shown, sort_key=order)
    return app
