# SPDX-License-Identifier: GPL-2.0-or-later
"""unnamed.py DIRECTORY basics|leave: files that are made without a name (O_TMPFILE)."""
import os
import stat
import sys
import time

from calls import attempt, link_open_file


def make(flags=os.O_RDWR, mode=0o640):
    return os.open('.', os.O_TMPFILE | flags, mode)


def basics():
    descriptor = make()
    found = os.fstat(descriptor)
    print('made', stat.filemode(found.st_mode), 'links', found.st_nlink, os.listdir('.'))
    content = os.urandom(300_000)
    os.write(descriptor, content)
    print('read back', os.pread(descriptor, len(content) + 1, 0) == content)
    os.ftruncate(descriptor, 200_000)
    os.fsync(descriptor)
    link_open_file(descriptor, 'first')
    link_open_file(descriptor, 'second')
    print('once more', attempt(link_open_file, descriptor, 'second'))
    print('links', os.fstat(descriptor).st_nlink, sorted(os.listdir('.')))
    os.write(descriptor, b'tail')
    os.close(descriptor)
    with open('second', 'rb') as file:
        print('by its name', file.read() == content[:200_000] + bytes(100_000) + b'tail')
    os.unlink('first')
    print('links', os.stat('second').st_nlink)

    exclusive = make(os.O_RDWR | os.O_EXCL)
    print('with O_EXCL', attempt(link_open_file, exclusive, 'never'))
    os.close(exclusive)
    print('for reading', attempt(make, os.O_RDONLY))
    print('in a file', attempt(os.open, 'second', os.O_TMPFILE | os.O_RDWR))
    os.mkdir('shared')
    os.chmod('shared', 0o2777)
    os.chown('shared', -1, 4321)
    inside = os.open('shared', os.O_TMPFILE | os.O_RDWR, 0o600)
    print('group', os.fstat(inside).st_gid)
    link_open_file(inside, 'shared/name')
    os.close(inside)
    # Many at once, half of them named.
    files = [make() for _ in range(200)]
    for number, descriptor in enumerate(files):
        os.write(descriptor, b'%d' % number * 1000)
        if number % 2:
            link_open_file(descriptor, f'many-{number}')
    for descriptor in files:
        os.close(descriptor)
    print('named', sum(name.startswith('many-') for name in os.listdir('.')))


def leave():
    """Has files open, synced and not, until it is killed."""
    synced = make()
    os.write(synced, os.urandom(20_000_000))
    os.fsync(synced)
    named = make()
    os.write(named, b'n' * 5000)
    link_open_file(named, 'survivor')
    os.fsync(named)
    lost = make()
    os.write(lost, b'l' * 5000)
    print('ready', flush=True)
    time.sleep(600)


os.chdir(sys.argv[1])
globals()[sys.argv[2]]()
