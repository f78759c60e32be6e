"""Results of long runs that are kept with the sources: who has the file goes on from it, on any machine."""

import json
import os


class KnownRuns:
    """A line of JSON for each run: what it was asked ("asked") and what it found. `path` may be none: then nothing is known."""

    def __init__(self, path):
        self.path, self.runs = path, {}
        if path and os.path.exists(path):
            with open(path) as file:
                for entry in map(json.loads, file):
                    self.runs[self.key(entry["asked"])] = entry

    @staticmethod
    def key(asked):
        return json.dumps(asked, sort_keys=True)

    def find(self, asked):
        """What a run of just that found; none where it is not known."""
        entry = self.runs.get(self.key(asked))
        return entry and {name: value for name, value in entry.items() if name != "asked"}

    def add(self, asked, found):
        self.runs[self.key(asked)] = {"asked": asked, **found}
        if not self.path:
            return
        with open(self.path + ".tmp", "w") as file:
            for key in sorted(self.runs):
                file.write(json.dumps(self.runs[key], sort_keys=True) + "\n")
        os.replace(self.path + ".tmp", self.path)
