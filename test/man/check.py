#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Manuals and --help name the same options, for every program.

  check.py SOURCE_ROOT STABLEFS   compare; 77 (skipped) when the program is not built
  check.py --self-test            prove that both directions can fail

A program's own manual holds its options (mkfs.stablefs.8). The others are the ".SS stablefs NAME"
sections of stablefs.8. An option counts in a manual when it stands on a ".TP" label line. Words of
mount -o that src/tools/mount_options.cc compares with must be label lines of mount.stablefs.8.
"""
import os
import re
import subprocess
import sys

OWN_MANUAL = {'mkfs': 'mkfs.stablefs.8', 'mount': 'mount.stablefs.8', 'fsck': 'fsck.stablefs.8',
              'crashtest': 'stablefs-crashtest.8'}
EVERYWHERE = {'-h', '--help', '--version'}
OPTION = re.compile(r'(?<![\w-])(?:--[a-z][a-z0-9-]*|-[A-Za-z]\b)')


def plain(line):
    """A line of roff without fonts and escaped hyphens."""
    line = re.sub(r'\\f[BIRP]', '', line).replace('\\-', '-')
    return re.sub(r'^\.(B|I|BR|BI|IR|RB|IB|RI)\s+', '', line).replace('"', '').replace(' ', ' ')


def labels_in_manual(text):
    """The label lines of .TP items."""
    return [plain(line) for line in re.findall(r'^\.T[PQ]\b.*\n(.*)', text, flags=re.MULTILINE)]


def options_in_manual(text):
    return {option for label in labels_in_manual(text)
            for option in OPTION.findall(label)} - EVERYWHERE


def subcommands_in_manual(text):
    """{name: text} of the .SS sections named "stablefs NAME"."""
    parts = re.split(r'^\.SS "?(?:\\fB)?stablefs ([a-z]+).*$', text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def options_in_help(text):
    """Options in the first column: lines that begin with one."""
    columns = re.findall(r'^ +(-\S+)', text, flags=re.MULTILINE)
    return {option for column in columns for option in OPTION.findall(column)} - EVERYWHERE


def help_of(program, subcommand):
    result = subprocess.run([program] + subcommand + ['--help'], capture_output=True, text=True,
                            timeout=20, check=False)
    return result.stdout + result.stderr, result.returncode


def subcommands_in_help(text):
    """Names at the start of indented lines below a heading that says commands."""
    names, inside = set(), False
    for line in text.splitlines():
        if re.match(r'^(\S.*)?commands', line, re.IGNORECASE):
            inside = True
        elif inside and re.match(r'^\s+([a-z]+)\b', line):
            names.add(re.match(r'^\s+([a-z]+)\b', line)[1])
        elif line.strip() and not line.startswith(' '):
            inside = False
    return names - {'help'}


def compare(name, manual, helped):
    for option in sorted(helped - manual):
        yield f'{name}: {option} is in --help but not in the manual'
    for option in sorted(manual - helped):
        yield f'{name}: {option} is in the manual but not in --help'


def check(root, program):
    man = os.path.join(root, 'man')
    with open(os.path.join(man, 'stablefs.8'), encoding='utf-8') as file:
        sections = subcommands_in_manual(file.read())
    listed = subcommands_in_help(help_of(program, [])[0])
    if not listed:
        yield 'stablefs --help lists no commands'
    for name in sorted(listed - set(sections)):
        yield f'stablefs {name} has no section in stablefs.8'
    for name in sorted(set(sections) - listed):
        yield f'stablefs {name} is in stablefs.8 but not in --help'
    for name in sorted(listed & set(sections)):
        text, status = help_of(program, [name])
        if status != 0:
            yield f'stablefs {name} --help exits {status}'
            continue
        manual = sections[name]
        if name in OWN_MANUAL:
            with open(os.path.join(man, OWN_MANUAL[name]), encoding='utf-8') as file:
                manual = file.read()
        yield from compare(name, options_in_manual(manual), options_in_help(text))


def check_mount_words(root):
    with open(os.path.join(root, 'src', 'tools', 'mount_options.cc'), encoding='utf-8') as file:
        words = set(re.findall(r'\bname == "(\w+)"', file.read()))
    with open(os.path.join(root, 'man', 'mount.stablefs.8'), encoding='utf-8') as file:
        labels = ' '.join(labels_in_manual(file.read()))
    if not words:
        yield 'no words of mount -o found in src/tools/mount_options.cc'
    for word in sorted(words):
        if not re.search(rf'(?<!\w){word}=', labels):
            yield f'mount -o {word}= has no item in mount.stablefs.8'


def self_test():
    manual = ('.TP\n.BR \\-f ", " \\-\\-force\ntext \\-\\-not\\-a\\-label\n.TP\n'
              '\\fB\\-\\-size\\fR \\fISIZE\\fR\ntext\n')
    page = 'x\n.SS stablefs mkfs\na\n.SS "stablefs dump"\nb\n'
    helped = ('Usage\n  -f,--force  do it, see -x\n  --size SIZE  how big\n  -h,--help\n'
              '  -q,-r  both\n')
    commands = 'Usage: x\n\nSubcommands:\n  mkfs   make\n  mount  mount\n\nOther:\n  no  no\n'
    claims = [
        options_in_manual(manual) == {'-f', '--force', '--size'},
        options_in_help(helped) == {'-f', '-q', '-r', '--force', '--size'},
        sorted(subcommands_in_manual(page)) == ['dump', 'mkfs'],
        subcommands_in_help(commands) == {'mkfs', 'mount'},
        not list(compare('x', {'--a'}, {'--a'})),
        len(list(compare('x', {'--a'}, {'--b'}))) == 2,
    ]
    for number, claim in enumerate(claims, 1):
        if not claim:
            print(f'self-test: claim {number} is false')
    return claims.count(False)


def main(arguments):
    if arguments == ['--self-test']:
        return 1 if self_test() else 0
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    if not os.access(arguments[1], os.X_OK):
        print(f'{arguments[1]} is not built')
        return 77
    problems = list(check(*arguments)) + list(check_mount_words(arguments[0]))
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
