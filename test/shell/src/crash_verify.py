# SPDX-License-Identifier: GPL-2.0-or-later
"""crash_verify.py DIRECTORY LOG: holds a recovered filesystem to the log of crash_writer.py.

Claims: what was fsynced is there, whole; a block is of the last synced version or a later begun
one, never anything else; a file renamed over another is one whole version; a file never synced is
a prefix of what was written; the markers are a prefix of their history that covers every fsync.
"""
import os
import sys

from content import BLOCK, block, content


class State:
    def __init__(self, kind):
        self.kind = kind
        self.begun = 0
        self.synced = 0
        self.sizes = {}


def read_log(path, acknowledged_bytes=None):
    """Behind the acknowledged bytes, when they are given, the crash may have come at any line: what
    was begun may be there, what was synced need not."""
    files, markers, markers_synced = {}, 0, 0
    length = 0
    with open(path, encoding='utf-8') as file:
        for line in file:
            if not line.endswith('\n'):
                break
            word, *rest = line.split()
            length += len(line)
            acknowledged = acknowledged_bytes is None or length <= acknowledged_bytes
            if word.endswith('synced') and not acknowledged:
                continue
            if word == 'begin':
                state = files.setdefault(rest[1], State(rest[0]))
                state.begun = int(rest[2])
                state.sizes[state.begun] = int(rest[3])
            elif word == 'synced':
                files[rest[1]].synced = int(rest[2])
            elif word == 'marker':
                markers = int(rest[0])
            elif word == 'markers-synced':
                markers_synced = int(rest[0])
    return files, markers, markers_synced


def check_plain(name, state, data):
    size = state.sizes[1]
    if state.synced and len(data) != size:
        return f'size {len(data)}, {size} was synced'
    if len(data) > size:
        return f'size {len(data)}, only {size} was written'
    versions = range(max(state.synced, 1), state.begun + 1)
    for index in range((len(data) + BLOCK - 1) // BLOCK):
        found = data[index * BLOCK:(index + 1) * BLOCK]
        if not any(block(name, version, index)[:len(found)] == found for version in versions):
            kind = 'zeros' if not any(found) else 'foreign or torn bytes'
            return (f'block {index} of {len(data)} bytes holds {kind}, not a version of '
                    f'{versions.start}..{state.begun} (synced: {state.synced})')
    return None


def check_atomic(name, state, data):
    for version in range(max(state.synced, 1), state.begun + 1):
        if data == content(name, version, state.sizes[version]):
            return None
    return f'{len(data)} bytes are no whole version of {state.synced}..{state.begun}'


def check_file(root, name, state):
    try:
        with open(os.path.join(root, name), 'rb') as file:
            data = file.read()
    except FileNotFoundError:
        return f'missing, version {state.synced} was synced' if state.synced else None
    return (check_plain if state.kind == 'plain' else check_atomic)(name, state, data)


def check_markers(root, begun, synced):
    try:
        found = sorted(int(name) for name in os.listdir(os.path.join(root, 'markers')))
    except FileNotFoundError:
        found = []
    if found != list(range(1, len(found) + 1)):
        yield f'markers are no prefix: {len(found)} found, last {found[-1]}'
    if not synced <= len(found) <= begun:
        yield f'{len(found)} markers, {synced} were synced, {begun} begun'


def problems_of(directory, files, markers, markers_synced):
    for text in check_markers(directory, markers, markers_synced):
        yield f'markers: {text}'
    for name, state in files.items():
        reason = check_file(directory, name, state)
        if reason:
            yield f'{name}: {reason}'


def main(root, log):
    bad = checked = synced_files = 0
    for number in range(2):
        if not os.path.exists(f'{log}.{number}'):
            continue
        history = read_log(f'{log}.{number}')
        problems = list(problems_of(f'{root}/{number}', *history))
        checked += len(history[0])
        synced_files += sum(state.synced > 0 for state in history[0].values())
        for problem in problems[:5]:
            print(f'{os.path.basename(root)}/{number}/{problem}')
        bad += len(problems)
    print(f'{checked} files, {synced_files} of them synced, {bad} violations', file=sys.stderr)
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1], sys.argv[2]))
