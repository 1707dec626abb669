# SPDX-License-Identifier: GPL-2.0-or-later
"""renames.py DIRECTORY: every kind of thing renamed over every other, with every flag."""
import itertools
import os
import stat
import sys

from calls import EXCHANGE, NOREPLACE, WHITEOUT, attempt, rename2

KINDS = ('nothing', 'file', 'empty', 'full', 'symlink', 'fifo')
FLAGS = {0: 'plain', NOREPLACE: 'noreplace', EXCHANGE: 'exchange', WHITEOUT: 'whiteout',
         NOREPLACE | WHITEOUT: 'noreplace+whiteout', NOREPLACE | EXCHANGE: 'noreplace+exchange',
         EXCHANGE | WHITEOUT: 'exchange+whiteout', 8: 'unknown'}


def make(kind, path):
    if kind == 'file':
        with open(path, 'w') as file:
            file.write(path)
    elif kind in ('empty', 'full'):
        os.mkdir(path)
        if kind == 'full':
            os.mkdir(path + '/inside')
    elif kind == 'symlink':
        os.symlink('full', path)
    elif kind == 'fifo':
        os.mkfifo(path)


def what(path):
    if not os.path.lexists(path):
        return '-'
    found = os.lstat(path)
    if stat.S_ISCHR(found.st_mode):
        assert found.st_rdev == 0 and found.st_nlink == 1, path
        return 'whiteout'
    return {stat.S_IFREG: 'file', stat.S_IFDIR: 'dir', stat.S_IFLNK: 'symlink',
            stat.S_IFIFO: 'fifo'}[stat.S_IFMT(found.st_mode)]


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        for name in os.listdir(path):
            remove(f'{path}/{name}')
        os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)


def matrix():
    for directory in ('one', 'two'):
        os.mkdir(directory)
    for flags, name in FLAGS.items():
        for source, target in itertools.product(KINDS, KINDS):
            make(source, 'one/a')
            make(target, 'two/b')
            result = attempt(rename2, 'one/a', 'two/b', flags)
            print(f'{name}: {source} over {target}: {result}, {what("one/a")} {what("two/b")}')
            links = [os.stat(directory).st_nlink for directory in ('one', 'two')]
            subdirectories = [2 + sum(entry.is_dir(follow_symlinks=False)
                                      for entry in os.scandir(directory))
                              for directory in ('one', 'two')]
            assert links == subdirectories, (links, subdirectories)
            for path in ('one/a', 'two/b'):
                if what(path) == 'dir':
                    assert os.stat(path + '/..').st_ino == os.stat(path[:3]).st_ino
                remove(path)


def special_cases():
    make('file', 'file')
    os.link('file', 'link')
    print('two names of one file:', attempt(os.rename, 'file', 'link'), sorted(os.listdir('.')))
    print('... leaving a whiteout:', attempt(rename2, 'file', 'link', WHITEOUT), what('file'))
    print('... exchanged:', attempt(rename2, 'file', 'link', EXCHANGE))
    print('... not replacing:', attempt(rename2, 'file', 'link', NOREPLACE))
    print('onto itself:', attempt(os.rename, 'file', 'file'), os.stat('file').st_nlink)
    os.makedirs('a/b/c')
    print('below itself:', attempt(os.rename, 'a', 'a/b/c/d'))
    print('over its child:', attempt(os.rename, 'a', 'a/b'))
    print('over its parent:', attempt(os.rename, 'a/b', 'a'))
    print('exchanged with its child:', attempt(rename2, 'a', 'a/b', EXCHANGE))
    print('exchanged with its parent:', attempt(rename2, 'a/b/c', 'a', EXCHANGE))
    print('dot:', attempt(os.rename, 'a/.', 'x'), attempt(os.rename, 'a', 'x/..'))
    print('with a slash:', attempt(os.rename, 'file', 'file2/'), attempt(os.rename, 'a', 'z/'))
    # An open file that is replaced lives on.
    with open('old', 'w+') as old:
        old.write('old content')
        old.flush()
        make('file', 'new')
        os.rename('new', 'old')
        old.seek(0)
        print('replaced and open:', old.read(), os.fstat(old.fileno()).st_nlink)
    with open('old') as file:
        print('its name:', file.read())


os.chdir(sys.argv[1])
matrix()
special_cases()
