"""Mistakes planted in a PTX text, one at a time: what orders threads, copies and products, left out or wrong by one."""

import re


def last_number(change):
    """Of a line: what becomes of its last number."""
    return lambda line: re.sub(r"(\d+);$", lambda found: f"{change(int(found[1]))};", line)


one_more = last_number(lambda number: number + 1)
halved = last_number(lambda number: number // 2)
doubled = last_number(lambda number: number * 2)


def nothing(_):
    return ""


# What is done to which instruction, where it always matters.
MISTAKES = {
    "fence.proxy.async left out": (r"fence\.proxy\.async", nothing),
    "wgmma.fence left out": (r"wgmma\.fence", nothing),
    "wgmma.commit_group left out": (r"wgmma\.commit_group", nothing),
    "wgmma.wait_group of one more": (r"wgmma\.wait_group", one_more),
    "cp.async.bulk.commit_group left out": (r"cp\.async\.bulk\.commit_group", nothing),
    "bulk copy left out": (r"cp\.async\.bulk\.tensor", nothing),
    "expect_tx of half the bytes": (r"mbarrier\.arrive\.expect_tx", halved),
    "expect_tx of twice the bytes": (r"mbarrier\.arrive\.expect_tx", doubled),
    "expect_tx left out": (r"mbarrier\.arrive\.expect_tx", nothing),
    "arrival left out": (r"mbarrier\.arrive\.shared", nothing),
    "mbarrier.init left out": (r"mbarrier\.init", nothing),
}
# Where it need not: Triton has more barriers than it needs, waits twice, and begins mbarriers that it does not use.
SOMETIMES = {
    "cp.async.commit_group left out": (r"cp\.async\.commit_group", nothing),
    "cp.async.wait_group of one more": (r"cp\.async\.wait_group", one_more),
    "mbarrier.init of one arrival more": (r"mbarrier\.init", one_more),
    "barrier left out": (r"\bbar\.sync|\bbarrier\.sync", nothing),
    "setmaxnreg left out": (r"setmaxnreg", nothing),
}
PARITY = re.compile(r"\{[^{}]*try_wait\.parity\S* \w+, \[[^]]+\], (%\w+);[^{}]*\}")


def mutations(text):
    """(mistake, line, text with it) of each place where one can be made."""
    lines = text.split("\n")
    for name, (pattern, change) in {**MISTAKES, **SOMETIMES}.items():
        for at, line in enumerate(lines):
            if re.search(pattern, line):
                yield name, at + 1, "\n".join(lines[:at] + [change(line)] + lines[at + 1:])
    # A wait is a loop between braces.
    for found in PARITY.finditer(text):
        turn = f"xor.b32 {found[1]}, {found[1]}, 1;\n"
        yield "parity turned", text.count("\n", 0, found.start()) + 1, text[:found.start()] + turn + found[0] + "\n" + turn + text[found.end():]
