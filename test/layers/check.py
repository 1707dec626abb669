#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Layer directions: which layer's headers a file may include. This table is the only place.

  check.py SOURCE_ROOT     check the tree; one line a violation, exit 1 if there is one
  check.py --self-test     prove that every rule can fail
  check.py --print-table   the table as it must stand in src/ARCHITECTURE.md
"""
import os
import re
import sys
import tempfile

BASE_TO_STORE = ['base', 'integrity', 'format', 'device', 'store']
# layer: what it may include besides itself, lowest first
LAYERS = {
    'base': [],
    'integrity': ['base'],
    'format': ['base', 'integrity'],
    'device': ['base', 'integrity'],
    'store': ['base', 'integrity', 'format', 'device'],
    'data': BASE_TO_STORE,
    'fs': BASE_TO_STORE + ['data'],
    'check': BASE_TO_STORE,
    'fuse': BASE_TO_STORE + ['data', 'fs'],
    'tools': BASE_TO_STORE + ['data', 'fs', 'check', 'fuse'],
}
# Published headers under include/stablefs/ belong to the layer that owns the contract.
PUBLISHED = {'errors.def': 'base', 'control.h': 'base', 'format.h': 'format'}
# Libraries that only these layers may name.
LIBRARIES = {
    r'fuse.*\.h|fuse3/.*|linux/fuse\.h': ['fuse', 'tools'],
    r'liburing\.h': ['device', 'fuse'],
    r'isa-l.*|isal/.*|crc\.h|crc64\.h': ['integrity'],
    r'blkid/.*': ['tools'],
    r'CLI/.*': ['tools'],
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def layer_of_file(relative):
    """The layer a source file belongs to; None for files the table does not rule (tests)."""
    parts = relative.split('/')
    if parts[0] == 'src' and len(parts) > 2:
        return parts[1]
    if parts[:2] == ['include', 'stablefs'] and len(parts) == 3:
        return PUBLISHED.get(parts[2], 'unknown published header ' + parts[2])
    return None


def layer_of_include(target):
    parts = target.split('/')
    if parts[0] == 'stablefs' and len(parts) == 2:
        return PUBLISHED.get(parts[1], 'unknown published header ' + parts[1])
    return parts[0] if len(parts) > 1 and parts[0] in LAYERS else None


def check_include(layer, style, target):
    """The reason why a file of `layer` must not include `target`, or None."""
    for pattern, owners in LIBRARIES.items():
        if style == '<' and re.fullmatch(pattern, target) and layer not in owners:
            return f'<{target}> is for {" and ".join(owners)} only'
    if style == '<':
        return None
    included = layer_of_include(target)
    if included is None:
        # A bare name would hide the layer it comes from, an upward path would dodge the table.
        return f'"{target}" does not start with its layer (write "layer/file.h")'
    if included not in LAYERS:
        return f'"{target}": {included} is in no layer (add it to test/layers/check.py)'
    if included != layer and included not in LAYERS[layer]:
        allowed = ', '.join(LAYERS[layer]) or 'nothing'
        return f'{layer} must not include {included} ("{target}"); it may use: {allowed}'
    return None


def source_files(root):
    for top in ('src', 'include'):
        for directory, _, names in sorted(os.walk(os.path.join(root, top))):
            for name in sorted(names):
                if name.endswith(('.cc', '.h', '.def', '.c')):
                    path = os.path.join(directory, name)
                    yield path, os.path.relpath(path, root)


def check_table():
    """The table itself: no layer may use one that comes after it in the order of the table."""
    order = list(LAYERS)
    for layer, uses in LAYERS.items():
        for used in uses:
            if order.index(used) >= order.index(layer):
                yield f'table: {layer} uses {used}, which is not below it'


def words_of_cell(cell):
    """Layers a cell of the table names: "everything", "store and below", or a list."""
    if cell == 'everything':
        return [layer for layer in LAYERS if layer != 'tools']
    below = re.fullmatch(r'(\w+) and below', cell)
    if below:
        return [below[1]] + LAYERS.get(below[1], [])
    return [] if cell in ('nothing', '-') else re.findall(r'[a-z]+', cell)


def architecture_table(text):
    """Rows of the table headed "| layer | may include |" or "may use", as {layer: [layers]}."""
    rows, inside = {}, False
    for line in text.splitlines():
        cells = [cell.strip().strip('`') for cell in line.strip().strip('|').split('|')]
        if [cell.lower() for cell in cells[:2]] in (['layer', 'may use'], ['layer', 'may include']):
            inside = True
        elif inside and not line.strip().startswith('|'):
            inside = False
        elif inside and cells[0] in LAYERS:
            rows[cells[0]] = words_of_cell(cells[1])
    return rows


def check_architecture(root):
    path = os.path.join(root, 'src', 'ARCHITECTURE.md')
    if not os.path.exists(path):
        return
    with open(path, encoding='utf-8') as file:
        rows = architecture_table(file.read())
    if not rows:
        yield 'src/ARCHITECTURE.md: no table "| layer | may include |" (check.py --print-table)'
        return
    for layer, uses in LAYERS.items():
        if layer not in rows:
            yield f'src/ARCHITECTURE.md: layer {layer} is missing from the table'
        elif sorted(rows[layer]) != sorted(uses):
            yield f'src/ARCHITECTURE.md: {layer} may use {", ".join(uses) or "nothing"}'


def check_tree(root):
    yield from check_table()
    yield from check_architecture(root)
    for path, relative in source_files(root):
        layer = layer_of_file(relative)
        if layer is None:
            continue
        if layer not in LAYERS:
            yield f'{relative}:1: {layer} is no layer (add it to test/layers/check.py)'
            continue
        with open(path, encoding='utf-8') as file:
            for number, line in enumerate(file, 1):
                match = INCLUDE.match(line)
                reason = match and check_include(layer, match[1], match[2])
                if reason:
                    yield f'{relative}:{number}: {reason}'


def print_table():
    print('| layer | may use |\n|---|---|')
    for layer, uses in LAYERS.items():
        print(f'| {layer} | {", ".join(uses) or "nothing"} |')


ARCHITECTURE = '''| layer | may use | what |
|---|---|---|
| `tools` | everything | x |
| `fuse` | fs and below | x |
| `check` | store and below | x |
| `fs` | data and below | x |
| `data` | store and below | x |
| `store` | device, format, integrity, base | x |
| `device` | integrity, base | x |
| `format` | integrity, base | x |
| `integrity` | base | x |
| `base` | - | x |
'''


def self_test():
    """Each case: file, text, whether it must be refused."""
    cases = [
        ('src/base/a.cc', '#include "store/a.h"\n', True),
        ('src/integrity/a.cc', '#include "format/a.h"\n', True),
        ('src/integrity/a.cc', '#include "stablefs/format.h"\n', True),
        ('src/format/a.cc', '#include "device/a.h"\n', True),
        ('src/device/a.cc', '#include "format/a.h"\n', True),
        ('src/store/a.cc', '#include "data/a.h"\n', True),
        ('src/data/a.cc', '#include "fs/a.h"\n', True),
        ('src/fs/a.cc', '#include "check/a.h"\n', True),
        ('src/fs/a.cc', '#include <fuse_lowlevel.h>\n', True),
        ('src/fs/a.cc', '#include <linux/fuse.h>\n', True),
        ('src/check/a.cc', '#include "data/a.h"\n', True),
        ('src/check/a.cc', '  #  include "fs/a.h"\n', True),
        ('src/fuse/a.cc', '#include "check/a.h"\n', True),
        ('src/fuse/a.cc', '#include "tools/a.h"\n', True),
        ('src/store/a.cc', '#include <liburing.h>\n', True),
        ('src/store/a.cc', '#include <blkid/blkid.h>\n', True),
        ('src/store/a.cc', '#include "../data/a.h"\n', True),
        ('src/store/a.cc', '#include "stablefs/secret.h"\n', True),
        ('src/novel/a.cc', '\n', True),
        ('include/stablefs/format.h', '#include "store/a.h"\n', True),
        ('src/ARCHITECTURE.md', '| layer | may use |\n|---|---|\n| base | store |\n', True),
        ('src/ARCHITECTURE.md', 'prose only\n', True),
        ('src/ARCHITECTURE.md', ARCHITECTURE.replace('data and', 'store and'), True),
        ('src/ARCHITECTURE.md', ARCHITECTURE, False),
        ('src/tools/a.cc', '#include "check/a.h"\n#include <blkid/blkid.h>\n', False),
        ('src/check/a.cc', '#include "store/a.h"\n#include "stablefs/format.h"\n', False),
        ('src/fuse/a.cc', '#include <fuse_lowlevel.h>\n#include "fs/a.h"\n', False),
        ('src/base/a.cc', '#include "base/a.h"\n#include "stablefs/errors.def"\n', False),
        ('src/base/a.cc', '// #include "store/a.h" in a comment\n', False),
        ('test/unit/a.cc', '#include "tools/a.h"\n', False),
    ]
    wrong = 0
    for name, text, refused in cases:
        with tempfile.TemporaryDirectory() as root:
            path = os.path.join(root, name)
            os.makedirs(os.path.dirname(path))
            with open(path, 'w', encoding='utf-8') as file:
                file.write(text)
            found = list(check_tree(root))
        if bool(found) != refused:
            wrong += 1
            print(f'self-test: {name}: {text!r}: expected {"a" if refused else "no"} violation, '
                  f'got {found}')
    print(f'{len(cases) - wrong} of {len(cases)} cases right')
    return wrong


def main(arguments):
    if arguments == ['--self-test']:
        return 1 if self_test() else 0
    if arguments == ['--print-table']:
        print_table()
        return 0
    if len(arguments) != 1 or arguments[0].startswith('-'):
        print(__doc__, file=sys.stderr)
        return 2
    violations = list(check_tree(arguments[0]))
    for violation in violations:
        print(violation)
    print(f'{len(violations)} layer violations')
    return 1 if violations else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
