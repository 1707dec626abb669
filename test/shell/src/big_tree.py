# SPDX-License-Identifier: GPL-2.0-or-later
"""big_tree.py DIRECTORY COUNT make|check|remove: a tree of many small files."""
import os
import sys
import time

FILES = 100  # in a directory
FAN = 20     # directories in a directory


def path_of(number):
    """A directory below directories, FAN at each level."""
    parts = []
    while True:
        parts.append(f'd{number % FAN}')
        number //= FAN
        if number == 0:
            return '/'.join(reversed(parts))


def make(top, count):
    for number in range(count // FILES):
        directory = f'{top}/{path_of(number)}/files-{number}'
        os.makedirs(directory)
        for file in range(FILES):
            descriptor = os.open(f'{directory}/f{file}', os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            if file % 10 == 0:
                os.write(descriptor, f'{number}.{file}'.encode())
            os.close(descriptor)


def check(top, count):
    files = wrong = 0
    for directory, _, names in os.walk(top):
        files += len(names)
        for name in names:
            if name != 'f10':
                continue
            with open(f'{directory}/{name}') as file:
                wrong += file.read() != directory.rsplit('-', 1)[1] + '.10'
    print('files:', files == count, 'wrong:', wrong)


def remove(top, _):
    for directory, subdirectories, names in os.walk(top, topdown=False):
        for name in names:
            os.unlink(f'{directory}/{name}')
        for name in subdirectories:
            os.rmdir(f'{directory}/{name}')


def main():
    top, count, action = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    started = time.monotonic()
    {'make': make, 'check': check, 'remove': remove}[action](top, count)
    seconds = time.monotonic() - started
    print(f'{action}: {count} in {seconds:.1f} s, {count / seconds:.0f}/s', file=sys.stderr)


main()
