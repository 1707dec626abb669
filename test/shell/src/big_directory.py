# SPDX-License-Identifier: GPL-2.0-or-later
"""big_directory.py DIRECTORY COUNT: one directory of many entries, listed while others change
it."""
import os
import random
import subprocess
import sys
import time

FIGURES = sys.stderr  # what differs from run to run


def timed(what, count):
    """Prints entries per second of the block."""
    class Timer:
        def __enter__(self):
            self.started = time.monotonic()

        def __exit__(self, *_):
            seconds = time.monotonic() - self.started
            print(f'{what}: {count} in {seconds:.1f} s, {count / seconds:.0f}/s', file=FIGURES,
                  flush=True)
    return Timer()


def create(directory, first, end):
    descriptor = os.open(directory, os.O_RDONLY)
    for number in range(first, end):
        os.close(os.open(f'entry-{number}', os.O_CREAT | os.O_EXCL | os.O_WRONLY,
                         dir_fd=descriptor))


def change(directory, seconds):
    """Makes, removes and renames names of its own until the time is over."""
    prng = random.Random(os.getpid())
    mine = []
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        name = f'{directory}/other-{os.getpid()}-{number}'
        number += 1
        choice = prng.random()
        if choice < 0.5 or not mine:
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
            mine.append(name)
        else:
            at = prng.randrange(len(mine))
            mine[at], mine[-1] = mine[-1], mine[at]
            if choice < 0.7:
                os.rename(mine[-1], name)
                mine[-1] = name
            else:
                os.unlink(mine.pop())
    for name in mine:
        os.unlink(name)


def helpers(*arguments, count=2):
    return [subprocess.Popen([sys.executable, __file__, *map(str, arguments)])
            for _ in range(count)]


def list_beside_changes(directory, count):
    expected = {f'entry-{number}' for number in range(count)}
    seconds = max(3, count / 40000)
    changers = helpers('change', directory, seconds)
    rounds = 0
    started = time.monotonic()
    while True:
        running = any(changer.poll() is None for changer in changers)
        names = os.listdir(directory)
        stable = [name for name in names if name.startswith('entry-')]
        if len(stable) != len(expected) or set(stable) != expected:
            print(f'{count} entries, listed {len(stable)}, distinct {len(set(stable))}')
        if len(set(names)) != len(names):
            print('a name is listed twice')
        rounds += 1
        if not running:
            break
    print(f'listed beside changes {rounds} times in {time.monotonic() - started:.1f} s',
          file=FIGURES)
    left = [name for name in os.listdir(directory) if not name.startswith('entry-')]
    print('listed beside changes:', 'enough' if rounds > 1 else rounds, 'left', len(left))


def look_up(directory, count):
    prng = random.Random(7)
    numbers = [prng.randrange(count) for _ in range(min(count, 100_000))]
    with timed('look up', len(numbers)):
        for number in numbers:
            os.stat(f'{directory}/entry-{number}')
    missing = 0
    with timed('look up what is not there', len(numbers)):
        for number in numbers:
            missing += not os.path.exists(f'{directory}/no-entry-{number}')
    print('missing as they should:', missing == len(numbers))


def remove_while_listing(directory, count):
    seen = set()
    with timed('list and remove', count):
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name in seen:
                    print('seen twice', entry.name)
                seen.add(entry.name)
                os.unlink(entry.path)
    print('removed all:', len(seen) == count, os.listdir(directory))
    print('links and size:', os.stat(directory).st_nlink, os.stat(directory).st_size)


def main():
    if sys.argv[1] == 'change':
        change(sys.argv[2], float(sys.argv[3]))
        return
    directory, count = sys.argv[1], int(sys.argv[2])
    os.mkdir(directory)
    # In parts, to see whether the last ones take longer than the first ones.
    part = max(count // 5, 1)
    for first in range(0, count, part):
        with timed('create', min(part, count - first)):
            create(directory, first, min(first + part, count))
    look_up(directory, count)
    if os.getuid() == 0:
        os.sync()
        with open('/proc/sys/vm/drop_caches', 'w') as control:
            control.write('3')
        look_up(directory, count)
    with timed('list', count):
        names = os.listdir(directory)
    print('listed all:', len(names) == len(set(names)) == count)
    with timed('list with attributes', count):
        sizes = sum(entry.stat().st_size for entry in os.scandir(directory))
    print('sizes:', sizes)
    list_beside_changes(directory, count)
    remove_while_listing(directory, count)
    os.rmdir(directory)


main()
