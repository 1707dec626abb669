# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets and reads the application tag of a file: tags.py FILE DIRECTORY"""
import errno
import os
import sys

NAME = 'user.stablefs.app_tag'


def attempt(what, call, *arguments):
    try:
        print(f'{what}: {call(*arguments)}')
    except OSError as error:
        print(f'{what}: {errno.errorcode[error.errno]}')


def main(path, directory):
    print(os.listxattr(path))
    attempt('none yet', os.getxattr, path, NAME)
    attempt('none to remove', os.removexattr, path, NAME)
    attempt('none to replace', os.setxattr, path, NAME, b'1', os.XATTR_REPLACE)
    for value in (b'0xFFFF', b'65535', b'65536', b'-1', b'', b'0x', b'12x', b' 1'):
        attempt(f'set {value}', os.setxattr, path, NAME, value)
    attempt('set', os.setxattr, path, NAME, b'254', os.XATTR_CREATE)
    attempt('get', os.getxattr, path, NAME)
    attempt('again', os.setxattr, path, NAME, b'1', os.XATTR_CREATE)
    print(os.listxattr(path))
    attempt('remove', os.removexattr, path, NAME)
    attempt('get', os.getxattr, path, NAME)
    attempt('of a directory', os.setxattr, directory, NAME, b'1')
    attempt('another name', os.setxattr, path, 'user.other', b'1')
    attempt('another name', os.getxattr, path, 'user.other')
    attempt('set', os.setxattr, path, NAME, b'0xFFFE')
    attempt('set', os.setxattr, path, NAME, b'0xbeef', os.XATTR_REPLACE)


if __name__ == '__main__':
    main(*sys.argv[1:])
