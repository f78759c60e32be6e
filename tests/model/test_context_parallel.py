"""Processes that share each text: with the losses of one process, whatever a query needs of its keys."""

import unittest

from test_processes import Processes, settings


class Shared(Processes):
    def losses_are_those_of_one(self, name, attention, processes=2, context=64, tolerance=None, model=None, **train):
        config = settings(attention, **{"batch": 2, "steps": 5, **train})
        config["model"].update(context=context, **(model or {}))
        self.write(config)
        self.train(name)
        texts = self.together(*self.command(name + "n"), "--context-parallel", "2", codes=(0,) * processes)
        self.same(name, name + "n", tolerance or self.ROUNDING)
        self.assertEqual(texts[1], ("", ""))
        return texts

    def text(self, name, statements, more=""):
        path = self.path(name + ".weft")
        with open(path, "w") as file:
            file.write("attention own(q: [B, H, T, D], k: [B, H, S, D], v: [B, H, S, E], c: [H]) { score dot(q[i], k[j]) / sqrt(D)" + more + " " + statements + " }")
        return path

    def test_dropout(self):
        # Random numbers are each process's own, so only the first loss is near.
        config = settings(self.text("dropped", "where i >= j dropout 0.2 sink c[h]"), batch=2, steps=3)
        self.write(config)
        self.train("one")
        self.together(*self.command("two"), "--context-parallel", "2")
        self.assertAlmostEqual(self.losses("one")[0][1], self.losses("two")[0][1], places=1)

    def test_a_ring(self):
        # Learned spans with their regulariser and rotary positions; learned positions; a table of distances; slopes; a learned network
        # of rows; a sink, which a row has once, though its window may leave the first piece; masks that read keys.
        for name, attention, options in [("span", "span_periodic", {"span_reg": 1e-3, "model": {"positions": "rotary"}}), ("dense", "causal", {"accumulate": 2}),
                                         ("table", "relative_bias", {}), ("slope", "alibi", {"model": {"positions": "none"}}),
                                         ("near", self.text("near", "where i >= j and i - j < 12 sink c[h]"), {}),
                                         ("read", self.text("read", "where i >= j where k[j, 0] > 0.0 or i - j < 3", " + q[i, 1] * c[h]"), {}),
                                         ("content", "content_weight", {"recompute": "blocks"}), ("sink", "attention_sink", {"optimizer": "muon"}),
                                         ("window", "sliding_window", {})]:
            with self.subTest(name):
                self.losses_are_those_of_one(name, attention, **options)

    def test_parts_of_pieces(self):
        # Pieces of four tiles and more, of which windows, spans and chosen tiles see some.
        for name, attention, options in [("near", self.text("near", "where i >= j and i - j < 70 sink c[h]"), {}), ("behind", self.text("behind", "where i - j > 300 and i - j < 420"), {}),
                                         ("span", "adaptive_span", {"span_reg": 1e-3, "model": {"positions": "rotary"}}), ("content", "block_sparse", {}), ("anchor", "anchor", {"model": {"layers": 1}})]:
            with self.subTest(name):
                self.losses_are_those_of_one(name, attention, context=1024, steps=2, batch=1, **options)

    def test_all_keys_at_once(self):
        for name in ("stick_breaking", "entmax15"):
            with self.subTest(name):
                self.losses_are_those_of_one(name, name, steps=3)

    def test_selected_tiles(self):
        for name in ("block_sparse", "content_sparse"):
            with self.subTest(name):
                self.losses_are_those_of_one(name, name, context=256, steps=3)

    def test_sixteen_bits(self):
        self.losses_are_those_of_one("bf16", "span_periodic", precision="bf16", tolerance=2e-2)

    def test_two_pairs_and_four(self):
        # Pairs that share texts each have their part of the batch; all average their gradients.
        texts = self.losses_are_those_of_one("pairs", "adaptive_span", processes=4, batch=4)
        self.assertIn("4 processes, in groups of 2 that share each text; each group with 2 texts, each process with 1 thread", texts[0][1])
        self.write(settings("causal", batch=2, steps=3))
        self.train("four")
        self.together(*self.command("four4"), "--context-parallel", "4", codes=(0,) * 4)
        self.same("four", "four4", self.ROUNDING)

    def test_validation_and_resume(self):
        self.write(settings("causal", batch=2, steps=6, validate_every=3, validate_bytes=2000))
        for steps in (["--steps", "4"], ["--resume"]):
            self.train("one", *steps)
        self.together(*self.command("two"), "--context-parallel", "2", "--steps", "4")
        self.together(*self.command("two"), "--context-parallel", "2", "--resume")
        self.same("one", "two", self.ROUNDING)
        bpc = [[entry["val_bpc"] for entry in self.metrics(run) if "val_bpc" in entry] for run in ("one", "two")]
        self.assertGreaterEqual(len(bpc[0]), 2)
        self.assertAlmostEqual(bpc[0][-1], bpc[1][-1], places=4)

    def test_what_does_not_fit(self):
        def fails(message, *args, count=2):
            for out, err in self.together(*self.command("x"), *args, codes=(1,) * count):
                self.assertIn(message, err)
            self.assertEqual(out, "")

        fails("train.context_parallel = 3 does not divide the 2 processes", "--context-parallel", "3")
        fails("model.context = 66: expected a multiple of 4, two pieces for each of 2 processes", "--context-parallel", "2", "--set", "context=66")
        self.assertIn("does not divide the 1 process of", self.train("y", "--context-parallel", "2", code=1).stderr)
        self.write(settings("row_gate", batch=2))
        fails("made of all tokens at once", "--context-parallel", "2")
        self.write(settings("block_sparse", batch=2))
        fails("expected pieces of whole tiles, got 16 tokens", "--context-parallel", "2")


if __name__ == "__main__":
    unittest.main()
