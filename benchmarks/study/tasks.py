"""Tasks that small models learn from scratch, made by seed: tokens, and what should follow where it can be known.

Each task is a function of (random, batch, length) that gives tokens and targets, int64 [batch, length]: the target of a position is
the token that should come next, or -1 where it cannot be known. Numbers below 256 are tokens.
"""

import numpy as np

VOCABULARY = 256
NONE = -1


def _empty(batch, length):
    return np.zeros((batch, length), dtype=np.int64), np.full((batch, length), NONE, dtype=np.int64)


def _pairs(random, count, keys, values):
    """`count` keys, each once, and a value of each."""
    return random.permutation(keys)[:count], random.choice(values, count)


KEYS, VALUES = np.arange(1, 101), np.arange(101, 201)


def recall(random, batch, length):
    """Multi-query associative recall (Arora et al. 2023, Zoology): pairs of a key and a value, then keys, of which the values are asked.
    A sixteenth of the length are pairs; between the questions is silence."""
    tokens, targets = _empty(batch, length)
    count = max(2, min(length // 16, len(KEYS)))
    for b in range(batch):
        keys, values = _pairs(random, count, KEYS, VALUES)
        tokens[b, : 2 * count : 2], tokens[b, 1 : 2 * count : 2] = keys, values
        places = 2 * count + random.permutation(length - 2 * count)[:count]
        tokens[b, places], targets[b, places] = keys, values
    return tokens, targets


def recall_in_noise(random, batch, length):
    """The same, with pairs anywhere in the first half, and noise in place of silence: tokens that are no keys and no values."""
    tokens, targets = _empty(batch, length)
    count = max(2, min(length // 16, len(KEYS)))
    half = length // 2
    for b in range(batch):
        tokens[b] = random.integers(201, VOCABULARY, length)
        keys, values = _pairs(random, count, KEYS, VALUES)
        first = 2 * np.sort(random.permutation(half // 2)[:count])
        tokens[b, first], tokens[b, first + 1] = keys, values
        places = half + random.permutation(length - half)[:count]
        tokens[b, places], targets[b, places] = keys, values
    return tokens, targets


def copying(random, batch, length):
    """A string of 32 symbols, a sign, and the string again."""
    half = length // 2
    string = random.integers(1, 33, (batch, half))
    tokens, targets = _empty(batch, length)
    tokens[:, :half], tokens[:, half] = string, 100
    again = length - half - 1
    tokens[:, half + 1 :] = string[:, :again]
    targets[:, half : half + again] = string[:, :again]
    return tokens, targets


def induction(random, batch, length):
    """Noise, in which each of 16 symbols is always followed by the same one, another in each text (Olsson et al. 2022): what follows it is
    asked from the second time on."""
    tokens, targets = _empty(batch, length)
    for b in range(batch):
        follower = dict(zip(range(1, 17), random.integers(101, 201, 16)))
        tokens[b] = random.integers(201, VOCABULARY, length)
        seen = set()
        for place in 2 * np.sort(random.permutation((length - 1) // 2)[: length // 8]):
            symbol = int(random.integers(1, 17))
            tokens[b, place], tokens[b, place + 1] = symbol, follower[symbol]
            if symbol in seen:
                targets[b, place] = follower[symbol]
            seen.add(symbol)
    return tokens, targets


def _text(random, length):
    """Bytes of words of random letters."""
    words = random.integers(97, 123, length)
    words[random.random(length) < 0.18] = 32
    return words


def needle(random, batch, length):
    """A byte-level needle in a haystack: `#k=ddd;` somewhere in a text of random words, and at its end `#k?ddd`; the digits are asked."""
    tokens, targets = _empty(batch, length)
    for b in range(batch):
        tokens[b] = _text(random, length)
        name, digits = random.integers(65, 91), random.integers(48, 58, 3)
        at = int(random.integers(0, length - 7 - 6))
        tokens[b, at : at + 7] = [35, name, 61, *digits, 59]
        tokens[b, -6:] = [35, name, 63, *digits]
        targets[b, -4:-1] = digits
    return tokens, targets


def variables(random, batch, length):
    """Variable tracking (RULER, Hsieh et al. 2024): `A=7;` and chains `B=A;`, `C=B;` of three steps among words; at the end `C?7` for all
    chains: the digits are asked."""
    tokens, targets = _empty(batch, length)
    steps, width = 4, 4
    chains = max(1, min(length // 64, 26 // steps))
    for b in range(batch):
        tokens[b] = _text(random, length)
        end = length - 3 * chains
        names = random.permutation(np.arange(65, 91))[: chains * steps].reshape(chains, steps)
        digits = random.integers(48, 58, chains)
        slots = np.sort(random.permutation(end // width)[: chains * steps]) * width
        left = [0] * chains
        for slot in slots:
            chain = int(random.choice([own for own in range(chains) if left[own] < steps]))
            step = left[chain]
            left[chain] += 1
            tokens[b, slot : slot + width] = [names[chain, step], 61, digits[chain] if step == 0 else names[chain, step - 1], 59]
        for number, chain in enumerate(random.permutation(chains)):
            at = end + 3 * number
            tokens[b, at : at + 3] = [names[chain, -1], 63, digits[chain]]
            targets[b, at + 1] = digits[chain]
    return tokens, targets


def counting(random, batch, length):
    """Twelve words, some more often than others, in silence; at the end each is named, and how often it was there, up to 31, is asked."""
    tokens, targets = _empty(batch, length)
    words = 12
    end = length - 2 * words
    for b in range(batch):
        counts = random.integers(0, max(2, min(32, end // (2 * words))), words)
        places = random.permutation(end)[: counts.sum()]
        tokens[b, places] = np.repeat(np.arange(1, words + 1), counts)
        order = random.permutation(words)
        tokens[b, end::2], tokens[b, end + 1 :: 2] = order + 1, 100 + counts[order]
        targets[b, end::2] = 100 + counts[order]
    return tokens, targets


TASKS = {task.__name__: task for task in (recall, recall_in_noise, copying, induction, needle, variables, counting)}
SHORTEST = 64  # that all tasks have room in


def make(name, seed, number, batch, length):
    """Batch `number` of a task; the same for the same arguments."""
    if length < SHORTEST:
        raise ValueError(f"expected a length of {SHORTEST} or more, got {length}")
    return TASKS[name](np.random.default_rng([seed, number, length]), batch, length)
