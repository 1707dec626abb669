# SPDX-License-Identifier: GPL-2.0-or-later
"""many_links.py DIRECTORY COUNT make|check|remove: one file with many names, one directory with
many subdirectories."""
import os
import sys


def main():
    directory, count, action = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    os.chdir(directory)
    if action == 'make':
        os.close(os.open('0', os.O_CREAT | os.O_WRONLY))
        os.mkdir('wide')
        for number in range(1, count):
            os.link('0', str(number))
            os.mkdir(f'wide/{number}')
    elif action == 'remove':
        for number in range(1, count):
            os.unlink(str(number))
            os.rmdir(f'wide/{number}')
    assert os.stat('0').st_nlink == len(os.listdir('.')) - 1, os.stat('0').st_nlink
    assert os.stat('wide').st_nlink == len(os.listdir('wide')) + 2, os.stat('wide').st_nlink
    print(action, 'all' if os.stat('0').st_nlink == count else os.stat('0').st_nlink)


main()
