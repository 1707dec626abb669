# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies inside the kernel, copy_file_range(2), against models of the files' bytes.

  clone.py errors DIR                      what is refused, and how
  clone.py copy FROM OFFSET TO OFFSET LENGTH  until it is done or the source ends; prints how much
  clone.py cached FILE COPY                of a file whose end the kernel has not written back
  clone.py random DIR COPIES COUNT SEED    COPIES gets the files that DIR must have
  clone.py rewrite FILE COUNT SEED         single blocks at random; prints which
"""
import errno
import os
import random
import sys

BLOCK = 4096
FILES = 3
LARGEST = 1 << 20


def copy(source, offset, target, target_offset, length):
    done = 0
    while done < length:
        step = os.copy_file_range(source, target, length - done, offset + done,
                                  target_offset + done)
        if step == 0:
            break
        done += step
    return done


def errors(directory):
    one, two = directory + '/one', directory + '/two'
    with open(one, 'wb') as file:
        file.write(b'x' * 50000)
    first = os.open(one, os.O_RDWR)
    second = os.open(two, os.O_RDWR | os.O_CREAT)
    for name, source, offset, target, target_offset, length in (
            ('onto itself', first, 0, first, 100, 5000),
            ('right behind itself', first, 0, first, 50000, 50000),
            ('from behind the end', first, 100000, second, 0, 5000),
            ('nothing', first, 0, second, 0, 0),
            ('to beyond the largest file', first, 0, second, (1 << 63) - 5000, 4000),
            ('across the end', first, 99000, second, 9, 5000)):
        try:
            print(f'{name}: {os.copy_file_range(source, target, length, offset, target_offset)}')
        except OSError as error:
            print(f'{name}: {errno.errorcode[error.errno]}')
    print('sizes', os.fstat(first).st_size, os.fstat(second).st_size)


def cached(path, copied):
    source = os.open(path, os.O_RDWR | os.O_CREAT)
    target = os.open(copied, os.O_RDWR | os.O_CREAT)
    os.pwrite(source, b'a' * BLOCK, 0)
    os.pwrite(source, b'b' * BLOCK, LARGEST)
    print('copied', copy(source, 0, target, 0, LARGEST // 2), 'and',
          copy(source, LARGEST // 2, target, LARGEST // 2, 10 * LARGEST))
    print('size', os.fstat(target).st_size)
    equal = os.pread(target, 2 * LARGEST, 0) == b'a' * BLOCK + bytes(LARGEST - BLOCK) + b'b' * BLOCK
    print('contents', 'equal' if equal else 'differ')


class Model:
    def __init__(self, path):
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        self.data = bytearray()

    def put(self, offset, content):
        if len(content) == 0:
            return
        if len(self.data) < offset:
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset:offset + len(content)] = content

    def check(self, what):
        found = os.pread(self.descriptor, 2 * LARGEST + BLOCK, 0)
        if found != self.data:
            sys.exit(f'{what}: {len(found)} bytes, not as the {len(self.data)} expected')


def run_random(directory, copies, count, seed):
    chance = random.Random(seed)
    models = [Model(f'{directory}/{i}') for i in range(FILES)]

    def place():
        offset = chance.randrange(LARGEST)
        return offset // BLOCK * BLOCK if chance.randrange(2) else offset

    for number in range(count):
        model = chance.choice(models)
        offset = place()
        length = 1 + chance.randrange(chance.choice((100, 3 * BLOCK, 40 * BLOCK)))
        action = chance.randrange(8)
        if action < 2:
            content = chance.randbytes(length)
            os.pwrite(model.descriptor, content, offset)
            model.put(offset, content)
        elif action == 2:
            os.ftruncate(model.descriptor, offset)
            del model.data[offset:]
            model.data.extend(bytes(offset - len(model.data)))
        elif action == 3:
            os.fsync(model.descriptor)
        else:
            target = chance.choice(models)
            target_offset = place()
            if chance.randrange(2):
                target_offset += offset % BLOCK - target_offset % BLOCK
                target_offset += BLOCK if target_offset < 0 else 0
            if chance.randrange(3) == 0:
                length = LARGEST
            content = bytes(model.data[offset:offset + length])
            apart = abs(offset - target_offset) >= length
            if target is model and not apart:
                continue
            what = f'operation {number}: {length} bytes from {offset} to {target_offset}'
            done = copy(model.descriptor, offset, target.descriptor, target_offset, len(content))
            if done != len(content):
                sys.exit(f'{what}: {done} of {len(content)} copied')
            target.put(target_offset, content)
            target.check(what)
    for i, model in enumerate(models):
        model.check('at the end')
        with open(f'{copies}/{i}', 'wb') as file:
            file.write(model.data)


def rewrite(path, count, seed):
    chance = random.Random(seed)
    descriptor = os.open(path, os.O_RDWR)
    blocks = os.fstat(descriptor).st_size // BLOCK
    for block in sorted(chance.sample(range(blocks), count)):
        os.pwrite(descriptor, chance.randbytes(BLOCK), block * BLOCK)
        print(block)
    os.fsync(descriptor)


def main():
    command, *arguments = sys.argv[1:]
    if command == 'errors':
        errors(*arguments)
    elif command == 'cached':
        cached(*arguments)
    elif command == 'random':
        run_random(arguments[0], arguments[1], int(arguments[2]), int(arguments[3]))
    elif command == 'rewrite':
        rewrite(arguments[0], int(arguments[1]), int(arguments[2]))
    else:
        source = os.open(arguments[0], os.O_RDONLY)
        target = os.open(arguments[2], os.O_WRONLY | os.O_CREAT)
        print(copy(source, int(arguments[1]), target, int(arguments[3]), int(arguments[4])))


if __name__ == '__main__':
    main()
