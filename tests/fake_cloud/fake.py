"""A gcloud and a kubectl that call nothing: they record, refuse what is unknown, fail where told.

By its file's name it is one or the other. In the folder FAKE_CLOUD it keeps ``calls`` and
``things``, which is what exists, and reads ``plan``; all are Python literals, because a thousand
starts without json and re take ten seconds less. The plan:

* ``fails``: calls that fail, as lists of arguments as `normal` writes them; ``leaves``: whether a
  creation that fails has made something all the same;
* ``answers``: a word of a call, and what calls with it print, one after another; the last one
  stays;
* ``hangs``: a word of a call that takes a second.
"""

import os
import sys

DEFAULTS = {
    "queued-resources describe": ["ACTIVE"],
    "tpu-vm describe": ["READY"],
    "systemctl show": ["Result=success\nActiveState=inactive"],
    "terminalState": ["Completed"],
}
# A container and what goes with it.
INSIDE = {"clusters": ("node-pools", "jobset")}


def subcommand(program, arguments, allowed):
    """The subcommand of a call, or None; raises ValueError on a flag that it has not."""
    words = [word for word in arguments if not word.startswith("-")]
    known = [" ".join(words[:n]) for n in range(len(words), 0, -1)]
    found = next((name for name in known if name in allowed[program]), None)
    if found is not None:
        flags = {word.split("=")[0] for word in arguments if word.startswith("-")}
        unknown = flags - {*allowed[program][found], *allowed[program][""]}
        if unknown:
            raise ValueError(f"unrecognized arguments: {' '.join(sorted(unknown))}")
    return found


def normal(arguments, folder):
    """Arguments without what differs from one folder of a fake cloud to another."""
    plain = [argument.replace(str(folder), "FOLDER") for argument in arguments]
    return [_without_random(argument) for argument in plain]


def _without_random(argument):
    before, found, after = argument.partition("/tmp.")  # of mktemp
    return f"{before}/TEMP/{after.partition('/')[2]}" if found else argument


def read(folder, name, default):
    path = os.path.join(folder, name)
    return eval(text_of(path)) if os.path.exists(path) else default


def write(folder, name, value):
    with open(os.path.join(folder, name), "w") as file:
        file.write(repr(value))


def text_of(path):
    with open(path) as file:
        return file.read()


def respond(folder, program, arguments, name):
    """Exit status and text of a call that is allowed and not told to fail."""
    line = " ".join([name, *arguments])
    things = read(folder, "things", [])
    plan = read(folder, "plan", {})
    fails = normal(arguments, folder) in plan.get("fails", [])
    if any(word in line for word in plan.get("hangs", [])):
        import time

        time.sleep(1)
    kind, verb = kind_and_verb(name, arguments)
    thing = [kind, name_of(arguments, name)]
    if verb == "create" and (not fails or plan.get("leaves")):
        if thing in things:
            return 1, "ALREADY_EXISTS"
        write(folder, "things", [*things, thing])
    if fails:
        return 1, "told to fail"
    if verb == "list" or (kind == "jobset" and "--ignore-not-found" in arguments and verb == "get"):
        return 0, "".join(t[1] for t in things if t[0] == kind and mentions(arguments, t[1]))
    if verb == "delete":
        gone = [kind, *INSIDE.get(kind, ())]
        if "queued-resources" in name and "--force" not in arguments:
            return 1, "a queued resource that is ACTIVE is deleted with --force only"
        if thing not in things:
            return (0, "") if "--ignore-not-found" in arguments else (1, "NOT_FOUND")
        write(folder, "things", [t for t in things if t != thing and t[0] not in gone])
    if verb in ("ssh", "scp", "describe") and not any(t[1] in line for t in things):
        return 1, "NOT_FOUND"
    return 0, answer(folder, line, plan)


def kind_and_verb(name, arguments):
    words = name.split()
    if words[0] in ("create", "delete", "get"):  # kubectl
        return "jobset", words[0]
    if "workload-policy" in words:
        return "resource-policies", "create"
    kind = words[-2] if len(words) > 1 else ""
    # A queued resource and the node that it holds are one thing here.
    return {"tpu-vm": "slice", "queued-resources": "slice"}.get(kind, kind), words[-1]


def name_of(arguments, name):
    """The name that a call gives: the word behind the subcommand, or that in a manifest."""
    files = [word.split("=", 1)[1] for word in arguments if word.startswith("--filename=/")]
    if files:
        return text_of(files[0]).split("\n  name: ")[1].partition("\n")[0]
    words = [word for word in arguments if not word.startswith("-")][len(name.split()) :]
    return [word for word in words if word != "jobset"][0] if words else ""


def mentions(arguments, name):
    spaced = ("".join(c if c.isalnum() or c in "_-" else " " for c in word) for word in arguments)
    return any(name in text.split() for text in spaced)


def answer(folder, line, plan):
    """The next of the answers to calls like this one."""
    used = read(folder, "used", {})
    for word, texts in {**DEFAULTS, **plan.get("answers", {})}.items():
        if word in line:
            count = used.get(word, 0)
            write(folder, "used", {**used, word: count + 1})
            return texts[min(count, len(texts) - 1)]
    return ""


def main():
    folder, allowed = os.environ["FAKE_CLOUD"], eval(text_of(os.environ["FAKE_CLOUD_ALLOWED"]))
    program, arguments = os.path.basename(sys.argv[0]), sys.argv[1:]
    files = [word.split("=", 1)[-1] for word in arguments if "/tmp." in word]  # of mktemp
    entry = {
        "program": program,
        "arguments": arguments,
        "files": [text_of(path) for path in files if os.path.isfile(path)],
    }
    with open(os.path.join(folder, "calls"), "a") as log:
        log.write(repr(entry) + "\n")
    try:
        name = subcommand(program, arguments, allowed)
        if name is None:
            raise ValueError(f"invalid choice: {' '.join(arguments)}")
    except ValueError as error:
        print(f"ERROR: ({program}) {error}", file=sys.stderr)
        return 2
    status, text = respond(folder, program, arguments, name)
    print(text, file=sys.stderr if status else sys.stdout)
    return status


if __name__ == "__main__":
    sys.exit(main())
