#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""House rules a compiler does not check. Each rule has a case in --self-test that must fail it.

  tidy.py SOURCE_ROOT   check the tree; one line a violation, exit 1 if there is one
  tidy.py --self-test   prove that every rule can fail, and that good code passes
"""
import errno
import os
import re
import sys
import tempfile

LINE_COLUMNS_MAX = 100
FILE_LINES_MAX = 700
FUNCTION_LINES_MAX = 100

CODE = ('.cc', '.h', '.def', '.c')
TEXT = CODE + ('.py', '.sh', '.build', '.txt')
CORE = r'src/(base|integrity|format|device|store|data|fs|check)/'

STD_SYNC = (r'mutex|timed_mutex|recursive_mutex|recursive_timed_mutex|shared_mutex|'
            r'shared_timed_mutex|condition_variable|condition_variable_any|thread|jthread|'
            r'lock_guard|unique_lock|scoped_lock|shared_lock|call_once|once_flag|latch|barrier|'
            r'counting_semaphore|binary_semaphore|async|future|promise|packaged_task')
ERRNO_NAMES = '|'.join(sorted(set(errno.errorcode.values()) | {'EUCLEAN'}, key=len, reverse=True))

# (name, files it rules, files it spares, pattern over code without comments and strings, reason)
LINE_RULES = [
    ('sync', r'(src|include)/', r'src/base/(sync|scheduler(_core)?)\.',
     rf'\bstd::({STD_SYNC})\b(?!::hardware_concurrency)|\bpthread_(mutex|cond|rwlock|create)\w*|'
     r'#\s*include\s*<(mutex|condition_variable|shared_mutex|future|latch|barrier|'
     r'semaphore)>',
     'locks and threads only through base/sync.h'),
    ('coroutine', r'(src|include|test)/', None,
     r'\bco_(await|yield|return)\b|#\s*include\s*<coroutine>',
     'no coroutines: g++ 12 miscompiles them'),
    ('errno', r'(src|include)/',
     r'src/(fuse|tools)/|src/base/result\.|src/device/|include/stablefs/errors\.def',
     rf'\berrno\b|\b({ERRNO_NAMES})\b',
     'errno lives in fuse, tools, device backends and base/result only; use ErrorCode'),
    ('time', CORE, r'src/base/(clock|sync|scheduler)\.',
     r'\bstd::chrono::(system|steady|high_resolution)_clock\b|'
     r'\b(clock_gettime|gettimeofday)\s*\(|'
     r'(?<![\w.>:])(time|std::time)\s*\(\s*(NULL|nullptr|0)\s*\)',
     'time is passed in (base/clock.h)'),
    ('randomness', CORE, None,
     r'\bstd::(random_device|mt19937\w*|default_random_engine)\b|\bgetrandom\s*\(|'
     r'(?<![\w.>:])(s?rand|s?random)\s*\(',
     'randomness is passed in (base/prng.h)'),
    ('assert', r'(src|include)/', None,
     r'(?<!\w)assert\s*\(|#\s*include\s*<(cassert|assert\.h)>',
     'FS_ASSERT, which stays on in release builds'),
    ('expected', r'(src|include|test)/', None,
     r'\bstd::(expected|format|byteswap)\b|#\s*include\s*<(expected|format)>',
     'g++ 12 does not have it: base/result.h, fmt, base/endian.h'),
    ('marker', r'(src|include|test)/', r'test/tidy/',
     r'\b(FIXME|XXX|HACK)\b', 'finish it or file it; no markers in the tree'),
]
RAW_MEMBER = re.compile(r'^\s+(?:std::)?(u?int(16|32|64)_t|int|long|short|unsigned|size_t|ssize_t|'
                        r'off_t|bool|float|double)\b[^()]*;')


def strip_comments(lines, keep_comments=False):
    """Lines with comments and string contents blanked, so that prose is not mistaken for code."""
    inside = False
    for line in lines:
        line = re.sub(r'"(\\.|[^"\\])*"', '""', line) if '#include' not in line.replace(' ', '') \
            else line
        if inside:
            end = line.find('*/')
            line, inside = (line[end + 2:], False) if end >= 0 else ('', True)
        if not keep_comments:
            line = re.sub(r'//.*', '', line)
        line = re.sub(r'/\*.*?\*/', '', line)
        start = line.find('/*')
        if start >= 0:
            line, inside = line[:start], True
        yield line


def check_lines(relative, lines):
    code = list(strip_comments(lines)) if relative.endswith(CODE) else None
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_COLUMNS_MAX:
            yield number, 'columns', f'{len(line)} columns, {LINE_COLUMNS_MAX} at most'
        if line != line.rstrip():
            yield number, 'space', 'space at the end of the line'
        if '\t' in line and relative.endswith(CODE + ('.py',)):
            yield number, 'tab', 'tab character'
    if code is None:
        return
    for name, ruled, spared, pattern, reason in LINE_RULES:
        if not re.match(ruled, relative) or (spared and re.match(spared, relative)):
            continue
        expression = re.compile(pattern)
        for number, line in enumerate(lines if name == 'marker' else code, 1):
            if expression.search(line):
                yield number, name, reason


def check_first_line(lines):
    head = lines[1:2] if lines and lines[0].startswith('#!') else lines[:1]
    if not head or 'SPDX-License-Identifier: GPL-2.0-or-later' not in head[0]:
        yield 1, 'spdx', 'first line (after #!) is not the SPDX line'


def check_disk_header(lines):
    """A native integer in an on-disk struct has the byte order of whoever compiled it."""
    inside = False
    for number, line in enumerate(strip_comments(lines), 1):
        if re.match(r'\s*struct\b[^;]*\{', line):
            inside = True
        elif re.match(r'\};', line):
            inside = False
        elif inside and 'static' not in line and RAW_MEMBER.match(line):
            yield number, 'disk', 'member of an on-disk struct must be le16/le32/le64 or bytes'


def check_size(relative, lines):
    if len(lines) > FILE_LINES_MAX:
        yield 1, 'file', f'{len(lines)} lines, {FILE_LINES_MAX} at most: give it one job'
    start = None
    for number, line in enumerate(lines, 1):
        if start is None:
            opens = line.endswith('{') and re.match(r'[A-Za-z].*|    .*\) (const )?\{', line)
            if opens and not re.match(r'(namespace|struct|class|enum|union|extern|TEST_CASE|'
                                      r'TEMPLATE_TEST_CASE|SCENARIO)\b', line):
                start = number
        elif line.startswith('}'):
            if number - start + 1 > FUNCTION_LINES_MAX:
                yield start, 'function', f'{number - start + 1} lines, {FUNCTION_LINES_MAX} at most'
            start = None


def check_file(relative, text):
    lines = text.split('\n')
    if lines and lines[-1] == '':
        lines.pop()
    elif lines:
        yield len(lines), 'newline', 'no newline at the end of the file'
    yield from check_first_line(lines)
    yield from check_lines(relative, lines)
    if relative.endswith('.cc') and relative.startswith('src/'):
        yield from check_size(relative, lines)
    if relative == 'include/stablefs/format.h':
        yield from check_disk_header(lines)
    # A precompiled header is a main file to the compiler, which warns about the pragma there.
    if (relative.endswith('.h') and '/precompiled/' not in relative
            and '#pragma once' not in text):
        yield 1, 'once', 'header without #pragma once'


def is_text(path, name):
    if name.endswith(TEXT):
        return True
    if '.' in name:
        return False
    with open(path, 'rb') as file:
        return file.read(2) == b'#!'


def source_files(root):
    for top in ('src', 'include', 'test', 'scripts', 'man', '.ci'):
        for directory, directories, names in os.walk(os.path.join(root, top)):
            directories[:] = sorted(d for d in directories if d not in ('__pycache__', 'images'))
            for name in sorted(names):
                path = os.path.join(directory, name)
                if is_text(path, name):
                    yield path, os.path.relpath(path, root)
    for name in ('meson.build', 'meson_options.txt'):
        if os.path.exists(os.path.join(root, name)):
            yield os.path.join(root, name), name


def check_tree(root):
    for path, relative in source_files(root):
        with open(path, encoding='utf-8', errors='replace') as file:
            text = file.read()
        for number, rule, reason in check_file(relative, text):
            if rule == 'spdx' and relative.endswith(('.txt', '.build')):
                continue  # lists of names
            yield rule, f'{relative}:{number}: {reason} [{rule}]'


SPDX = '// SPDX-License-Identifier: GPL-2.0-or-later\n'
HEADER = SPDX + '#pragma once\n'
LONG_FUNCTION = SPDX + 'int f() {\n' + '  g();\n' * FUNCTION_LINES_MAX + '}\n'
# (file, text, the rule that must complain or None)
CASES = [
    ('src/base/a.cc', 'int x;\n', 'spdx'),
    ('scripts/a', '#!/bin/bash\ntrue\n', 'spdx'),
    ('src/base/a.cc', SPDX + '// ' + 'x' * LINE_COLUMNS_MAX + '\n', 'columns'),
    ('src/base/a.cc', SPDX + 'int x; \n', 'space'),
    ('src/base/a.cc', SPDX + '\tint x;\n', 'tab'),
    ('src/base/a.cc', SPDX + 'int x;', 'newline'),
    ('src/base/a.h', SPDX + 'int x;\n', 'once'),
    ('src/base/a.cc', SPDX + 'int x;\n' * FILE_LINES_MAX, 'file'),
    ('src/base/a.cc', LONG_FUNCTION, 'function'),
    ('src/store/a.cc', SPDX + 'std::mutex m;\n', 'sync'),
    ('src/store/a.cc', SPDX + 'std::lock_guard<M> l(m);\n', 'sync'),
    ('src/fuse/a.cc', SPDX + '#include <shared_mutex>\n', 'sync'),
    ('src/fuse/a.cc', SPDX + 'std::thread t(f);\n', 'sync'),
    ('src/fuse/a.cc', SPDX + 'n = std::thread::hardware_concurrency();\n', None),
    ('src/tools/a.cc', SPDX + 'pthread_create(&t, 0, f, 0);\n', 'sync'),
    ('src/fuse/a.cc', SPDX + 'co_await f();\n', 'coroutine'),
    ('test/unit/a.cc', SPDX + '#include <coroutine>\n', 'coroutine'),
    ('src/fs/a.cc', SPDX + 'return -ENOENT;\n', 'errno'),
    ('src/store/a.cc', SPDX + 'if (errno == 4) f();\n', 'errno'),
    ('include/stablefs/format.h', HEADER + 'int f() { return EIO; }\n', 'errno'),
    ('src/data/a.cc', SPDX + 'auto t = std::chrono::steady_clock::now();\n', 'time'),
    ('src/data/a.cc', SPDX + 'clock_gettime(CLOCK_REALTIME, &t);\n', 'time'),
    ('src/store/a.cc', SPDX + 'std::random_device r;\n', 'randomness'),
    ('src/store/a.cc', SPDX + 'getrandom(p, 16, 0);\n', 'randomness'),
    ('src/store/a.cc', SPDX + 'assert(x);\n', 'assert'),
    ('src/store/a.cc', SPDX + '#include <cassert>\n', 'assert'),
    ('src/store/a.cc', SPDX + 'std::format("{}", 1);\n', 'expected'),
    ('src/store/a.cc', SPDX + '// FIXME later\n', 'marker'),
    ('include/stablefs/format.h', HEADER + 'struct A {\n  uint64_t x;\n};\n', 'disk'),
    ('include/stablefs/format.h', HEADER + 'struct A {\n  uint32_t x[2];\n};\n', 'disk'),
    ('include/stablefs/format.h', HEADER + 'struct A {\n  bool x = false;\n};\n', 'disk'),
    ('include/stablefs/format.h',
     HEADER + 'struct A {\n  le64 x;\n  uint8_t uuid[16];\n  char label[32];\n'
     '  static constexpr uint32_t kMagic = 1;\n  uint64_t get() const;\n};\n', None),
    ('include/stablefs/format.h', HEADER + 'inline constexpr uint64_t kSize = 4;\n', None),
    ('src/base/sync.cc', SPDX + '#include <mutex>\nstd::mutex m;\n', None),
    ('src/fuse/a.cc', SPDX + 'reply(EIO);\n', None),
    ('src/device/a.cc', SPDX + 'return errno;\n', None),
    ('src/store/a.cc', SPDX + '// a std::mutex would deadlock; errno is for fuse\n', None),
    ('src/store/a.cc', SPDX + 'log("EIO: std::mutex");\n', None),
    ('src/store/a.cc', SPDX + '/* ENOSPC\n   std::thread */\nint x;\n', None),
    ('src/store/a.cc', SPDX + 'static_assert(sizeof(int) == 4);\nFS_ASSERT(x);\n', None),
    ('src/store/a.cc', SPDX + 'clock.time(0);\nrange.random(1);\n', None),
    ('test/unit/a.cc', SPDX + '#include <thread>\nstd::thread t;\n', None),
    ('scripts/a', '#!/bin/bash\n# SPDX-License-Identifier: GPL-2.0-or-later\ntrue\n', None),
]


def self_test():
    wrong = 0
    for name, text, expected in CASES:
        with tempfile.TemporaryDirectory() as root:
            path = os.path.join(root, name)
            os.makedirs(os.path.dirname(path))
            with open(path, 'w', encoding='utf-8') as file:
                file.write(text)
            rules = sorted({rule for rule, _ in check_tree(root)})
        if rules != ([expected] if expected else []):
            wrong += 1
            print(f'self-test: {name}: {text[-60:]!r}: expected {expected}, got {rules}')
    covered = {expected for _, _, expected in CASES}
    for name, *_ in LINE_RULES:
        if name not in covered:
            wrong += 1
            print(f'self-test: rule {name} has no case that fails it')
    print(f'{len(CASES)} cases, {wrong} wrong')
    return wrong


def main(arguments):
    if arguments == ['--self-test']:
        return 1 if self_test() else 0
    if len(arguments) != 1 or arguments[0].startswith('-'):
        print(__doc__, file=sys.stderr)
        return 2
    violations = [text for _, text in check_tree(arguments[0])]
    for violation in violations:
        print(violation)
    print(f'{len(violations)} violations')
    return 1 if violations else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
