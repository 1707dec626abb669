# SPDX-License-Identifier: GPL-2.0-or-later
"""odd_names.py DIRECTORY: names of any bytes and lengths, deep paths, links and special files."""
import os
import socket
import stat
import sys

from calls import EXCHANGE, WHITEOUT, attempt, link_open_file, rename2

LONG, TOO_LONG = b'n' * 255, b'n' * 256
TARGET_BYTES_MAX = 4095


def put(name, data=b''):
    with open(name, 'wb') as file:
        file.write(data)


def bytes_of_names():
    os.mkdir('bytes')
    os.chdir('bytes')
    singles = [bytes([value]) for value in range(1, 256) if value not in b'/.']
    pairs = [b'\xff' + bytes([value]) for value in range(1, 256) if value != ord('/')]
    others = [b'...', b'-rf', b'\xf0\x9f\x98\x80' * 63, 'e\u0301'.encode(), '\u00e9'.encode(),
              b'a', b'A', b'%s%n', b'\xc0\xaf', b'n' * 254, LONG]
    names = sorted(set(singles + pairs + others))
    for name in names:
        put(name, name)
    print('all listed:', sorted(os.listdir(b'.')) == names)
    wrong = 0
    for name in names:
        with open(name, 'rb') as file:
            wrong += file.read() != name
    print('wrong contents:', wrong)
    for name in names[::2]:
        os.rename(name, name[:250] + b'\x01\x02')
    print('after renaming:', len(set(os.listdir(b'.'))) == len(names))
    os.chdir('..')


def lengths():
    put(b'f')
    os.mkdir(b'd')
    descriptor = os.open('.', os.O_TMPFILE | os.O_RDWR)
    calls = {
        'open': lambda: os.open(TOO_LONG, os.O_RDONLY),
        'create': lambda: put(TOO_LONG),
        'stat': lambda: os.stat(TOO_LONG),
        'mkdir': lambda: os.mkdir(TOO_LONG),
        'mkfifo': lambda: os.mkfifo(TOO_LONG),
        'symlink': lambda: os.symlink('x', TOO_LONG),
        'link to': lambda: os.link('f', TOO_LONG),
        'link from': lambda: os.link(TOO_LONG, 'x'),
        'link of an open file': lambda: link_open_file(descriptor, TOO_LONG),
        'unlink': lambda: os.unlink(TOO_LONG),
        'rmdir': lambda: os.rmdir(TOO_LONG),
        'rename to': lambda: os.rename('f', TOO_LONG),
        'rename from': lambda: os.rename(TOO_LONG, 'x'),
        'exchange': lambda: rename2('f', TOO_LONG, EXCHANGE),
        'whiteout': lambda: rename2('f', TOO_LONG, WHITEOUT),
        'chmod': lambda: os.chmod(TOO_LONG, 0),
        'truncate': lambda: os.truncate(TOO_LONG, 0),
        'readlink': lambda: os.readlink(TOO_LONG),
        'in a directory': lambda: os.stat(b'd/' + TOO_LONG),
        'as a directory': lambda: os.stat(TOO_LONG + b'/x'),
        'of 1000 bytes': lambda: put(b'n' * 1000),
        'of 1024 bytes': lambda: os.stat(b'n' * 1024),
        'of 2000 bytes': lambda: os.stat(b'n' * 2000),
    }
    wrong = {what: attempt(call) for what, call in calls.items()}
    print('not ENAMETOOLONG:', {what: result for what, result in wrong.items()
                                if result != 'ENAMETOOLONG'})
    os.close(descriptor)
    print('255 bytes:', attempt(os.mkdir, LONG), attempt(os.rename, LONG, b'm' * 255),
          attempt(os.rmdir, b'm' * 255))


def symlinks():
    for length in (1, 999, 1000, 1001, 2000, 3000, 3001, TARGET_BYTES_MAX):
        target = os.urandom(length).replace(b'\0', b'x')
        os.symlink(target, f'link-{length}')
        assert os.readlink(os.fsencode(f'link-{length}')) == target
        assert os.lstat(f'link-{length}').st_size == length
    print('too long:', attempt(os.symlink, 'x' * (TARGET_BYTES_MAX + 1), 'never'))
    print('empty:', attempt(os.symlink, '', 'never'))
    os.symlink('loop-b', 'loop-a')
    os.symlink('loop-a', 'loop-b')
    print('in a circle:', attempt(os.stat, 'loop-a'))
    os.link('link-3001', 'hard', follow_symlinks=False)
    print('hard link of a symlink:', os.lstat('hard').st_nlink)
    print('chmod:', stat.filemode(os.lstat('hard').st_mode))


def deep(levels=1000):
    start = os.getcwd()
    for level in range(levels):
        os.mkdir(f'level-{level}')
        os.chdir(f'level-{level}')
    put('bottom', b'deep')
    bottom = os.stat('bottom').st_ino
    print('back up:', os.stat('../' * levels + 'f').st_ino == os.stat(start + '/f').st_ino)
    os.chdir(start)
    os.rename('level-0', 'moved')
    descriptor = os.open('moved', os.O_RDONLY)
    for level in range(1, levels):
        below = os.open(f'level-{level}', os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    print('found again:', os.stat('bottom', dir_fd=descriptor).st_ino == bottom)
    print('moved below itself:', attempt(os.rename, 'moved', 'never', dst_dir_fd=descriptor))
    os.mkdir('elsewhere')
    os.rename('bottom', 'elsewhere/bottom', src_dir_fd=descriptor)
    os.close(descriptor)
    os.rename('moved', 'elsewhere/moved')


def special_files():
    os.mkfifo('fifo', 0o600)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind('socket')
        listener.listen()
        with socket.socket(socket.AF_UNIX) as client:
            print('socket:', attempt(client.connect, 'socket'))
    devices = [(stat.S_IFCHR, 0, 0), (stat.S_IFCHR, 1, 3), (stat.S_IFBLK, 7, 255),
               (stat.S_IFCHR, 4095, 1048575), (stat.S_IFBLK, 259, 65536)]
    for number, (kind, major, minor) in enumerate(devices):
        os.mknod(f'device-{number}', kind | 0o640, os.makedev(major, minor))
    kept = [os.stat(f'device-{number}').st_rdev == os.makedev(major, minor)
            for number, (_, major, minor) in enumerate(devices)]
    print('devices:', kept, [stat.filemode(os.stat(name).st_mode)
                             for name in ('fifo', 'socket', 'device-1', 'device-2')])
    with open('device-1', 'wb') as null:
        null.write(b'gone')
    os.mknod('plain', 0o644)
    print('mknod of a file:', stat.filemode(os.stat('plain').st_mode))
    os.link('fifo', 'fifo-2')
    os.chmod('fifo-2', 0o4711)
    print('fifo:', stat.filemode(os.stat('fifo').st_mode), os.stat('fifo').st_nlink)


os.chdir(sys.argv[1])
bytes_of_names()
lengths()
symlinks()
deep()
special_files()
