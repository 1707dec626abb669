# SPDX-License-Identifier: GPL-2.0-or-later
"""Extended attributes against a model of them.

  xattrs.py claims DIRECTORY            what every filesystem with attributes does, with its truth
  xattrs.py random DIRECTORY SEED COUNT sets, replaces, removes; writes the model beside: MODEL
  xattrs.py verify DIRECTORY            the attributes of DIRECTORY are those of the model
"""
import errno
import json
import os
import random
import sys

LARGEST = 65536


def name_of(code):
    return errno.errorcode.get(code, str(code))


def outcome(function, *arguments, **named):
    try:
        result = function(*arguments, **named)
    except OSError as error:
        return name_of(error.errno)
    return 'ok' if result is None else result


def claims(directory):
    path = os.path.join(directory, 'file')
    with open(path, 'w', encoding='ascii'):
        pass
    link, pipe = os.path.join(directory, 'link'), os.path.join(directory, 'pipe')
    os.symlink('file', link)
    os.mkfifo(pipe)
    bare = {'follow_symlinks': False}

    def show(what, got):
        print(f'{what}: {got}')

    show('list nothing', os.listxattr(path))
    show('get nothing', outcome(os.getxattr, path, 'user.none'))
    show('remove nothing', outcome(os.removexattr, path, 'user.none'))
    show('replace nothing', outcome(os.setxattr, path, 'user.a', b'1', os.XATTR_REPLACE))
    show('create', outcome(os.setxattr, path, 'user.a', b'1', os.XATTR_CREATE))
    show('create again', outcome(os.setxattr, path, 'user.a', b'2', os.XATTR_CREATE))
    show('replace', outcome(os.setxattr, path, 'user.a', b'3', os.XATTR_REPLACE))
    show('get', outcome(os.getxattr, path, 'user.a'))
    show('an empty value', outcome(os.setxattr, path, 'user.empty', b''))
    show('list', sorted(os.listxattr(path)))
    show('the longest name', outcome(os.setxattr, path, 'user.' + 'n' * 250, b'x'))
    show('a longer name', outcome(os.setxattr, path, 'user.' + 'n' * 251, b'x'))
    show('the longest value', outcome(os.setxattr, path, 'user.long', b'v' * LARGEST))
    show('it is back', os.getxattr(path, 'user.long') == b'v' * LARGEST)
    show('a longer value', outcome(os.setxattr, path, 'user.long', b'v' * (LARGEST + 1)))
    show('no name', outcome(os.setxattr, path, '', b'x'))
    show('a namespace alone', outcome(os.setxattr, path, 'user.', b'x'))
    show('no such namespace', outcome(os.setxattr, path, 'other.x', b'x'))
    show('unknown system attribute', outcome(os.setxattr, path, 'system.x', b'x'))
    show('user on a symlink', outcome(os.setxattr, link, 'user.x', b'x', **bare))
    show('user on a pipe', outcome(os.setxattr, pipe, 'user.x', b'x'))
    show('user on a directory', outcome(os.setxattr, directory, 'user.x', b'x'))
    os.removexattr(directory, 'user.x')
    before = os.stat(path)
    while os.stat(path).st_ctime_ns == before.st_ctime_ns:
        os.setxattr(path, 'user.a', b'4')
    show('mtime unchanged', os.stat(path).st_mtime_ns == before.st_mtime_ns)
    for name in os.listxattr(path):
        os.removexattr(path, name)
    show('list nothing', os.listxattr(path))


def model_path(directory):
    return directory.rstrip('/') + '.model'


def change(path, model, chosen):
    name = 'user.' + chosen.choice('abcdefgh') * chosen.choice((1, 1, 20, 240))
    if name in model and chosen.random() < 0.3:
        os.removexattr(path, name)
        del model[name]
        return
    length = chosen.choice((0, 1, 100, 985, 986, 987, 2000, 10000, LARGEST))
    value = chosen.randbytes(chosen.randint(0, length))
    os.setxattr(path, name, value)
    model[name] = value.hex()


def run_random(directory, seed, count):
    chosen = random.Random(seed)
    models = {}
    for number in range(4):
        path = os.path.join(directory, f'f{number}')
        if number % 2:
            os.mkdir(path)
        else:
            with open(path, 'w', encoding='ascii'):
                pass
        models[path] = {}
    for _ in range(count):
        path = chosen.choice(list(models))
        change(path, models[path], chosen)
    with open(model_path(directory), 'w', encoding='ascii') as file:
        json.dump(models, file)


def verify(directory):
    with open(model_path(directory), encoding='ascii') as file:
        models = json.load(file)
    for path, model in models.items():
        found = {name: os.getxattr(path, name).hex() for name in os.listxattr(path)}
        if found != model:
            print(f'{path}: {sorted(found)} instead of {sorted(model)}, or values differ')


if __name__ == '__main__':
    command, place = sys.argv[1:3]
    if command == 'claims':
        claims(place)
    elif command == 'random':
        run_random(place, int(sys.argv[3]), int(sys.argv[4]))
    else:
        verify(place)
