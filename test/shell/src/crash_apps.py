# SPDX-License-Identifier: GPL-2.0-or-later
"""Applications that survive a crash.

crash_apps.py APPLICATION run DIRECTORY ROUNDS
  works in DIRECTORY, the root of a mount with -o iolog, and puts a mark into the recording for all
  that was acknowledged.
crash_apps.py APPLICATION serve QUESTIONS ANSWERS
  two FIFOs. A question is the last mark, a tab and a directory: does it hold what the application
  is owed after a crash? The answer is "yes" or what is wrong. An empty question is the last one.
  One process for thousands of states, because starting Python takes longer than any check.
"""
import functools
import hashlib
import io
import os
import random
import sqlite3
import stat
import subprocess
import sys
import tarfile

from crash_server import serve

MARK = 'system.stablefs.mark'


def mark(directory, text):
    os.setxattr(directory, MARK, str(text).encode())


class Violation(Exception):
    pass


def claim(holds, what):
    if not holds:
        raise Violation(what)


def sync(directory):
    subprocess.run(['sync', '-f', directory], check=True)


def fsync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def body(number, length):
    """Bytes that belong to this number and to no other."""
    piece = hashlib.sha256(str(number).encode()).digest()
    return (piece * (length // len(piece) + 1))[:length]


class Untar:
    """tar -x, then sync: synced trees are there, files of others hold what they had so far."""

    @staticmethod
    @functools.cache
    def members(number):
        rng = random.Random(number)
        members = []
        for index in range(20):
            member = tarfile.TarInfo(f'tree-{number}/directory-{index % 4}/file-{index}')
            member.mode, member.mtime = rng.choice([0o644, 0o600, 0o755]), 10**9 + index
            contents = b''
            if index % 9 == 8:
                member.type, member.linkname = tarfile.SYMTYPE, 'target-' + 'x' * index
            else:
                contents = rng.randbytes(rng.choice([0, 1, 700, 4096, 9000, 70001]))
                member.size = len(contents)
            members.append((member, contents))
        return members

    def run(self, directory, rounds):
        for number in range(1, rounds + 1):
            archive = io.BytesIO()
            with tarfile.open(fileobj=archive, mode='w') as tar:
                for member, contents in self.members(number):
                    tar.addfile(member, io.BytesIO(contents))
            subprocess.run(['tar', '-x', '-C', directory], input=archive.getvalue(), check=True)
            sync(directory)
            mark(directory, number)

    def check(self, directory, mark_text):
        synced = int(mark_text or 0)
        trees = [int(name[5:]) for name in os.listdir(directory) if name.startswith('tree-')]
        claim(set(range(1, synced + 1)) <= set(trees) <= set(range(1, synced + 2)), sorted(trees))
        for number in trees:
            for member, contents in self.members(number):
                self.check_member(os.path.join(directory, member.name), member, contents,
                                  number <= synced)

    @staticmethod
    def check_member(path, member, contents, is_synced):
        if not os.path.lexists(path):
            claim(not is_synced, f'{path} is not there')
            return
        info = os.lstat(path)
        if member.issym():
            claim(os.readlink(path) == member.linkname, f'{path} leads elsewhere')
            return
        with open(path, 'rb') as file:
            found = file.read()
        claim(contents.startswith(found), f'{path} holds what nobody wrote')
        if is_synced:
            claim(found == contents, f'{path} is short')
            claim(stat.S_IMODE(info.st_mode) == member.mode, f'{path} has mode {info.st_mode:o}')
            claim(int(info.st_mtime) == member.mtime, f'{path} has mtime {info.st_mtime}')


class Database:
    """SQLite transactions: those that were committed are there, the next one whole or not at all.
    """

    ROWS = 3

    def __init__(self, mode):
        self.mode = mode

    def run(self, directory, rounds):
        database = sqlite3.connect(os.path.join(directory, 'database'), isolation_level=None)
        database.execute(f'PRAGMA journal_mode={self.mode}')
        # In rollback mode only EXTRA keeps a transaction whose journal was just unlinked.
        database.execute('PRAGMA synchronous=EXTRA')
        database.execute('PRAGMA wal_autocheckpoint=25')
        database.execute('BEGIN')
        database.execute('CREATE TABLE row(id INTEGER PRIMARY KEY, body BLOB)')
        database.execute('CREATE TABLE last(number INTEGER)')
        database.execute('INSERT INTO last VALUES(0)')
        database.execute('COMMIT')
        for number in range(1, rounds + 1):
            database.execute('BEGIN')
            for row in range(number * self.ROWS, (number + 1) * self.ROWS):
                database.execute('INSERT INTO row VALUES(?, ?)', (row, body(row, row * 97 % 3000)))
            database.execute('UPDATE last SET number = ?', (number,))
            database.execute('COMMIT')
            mark(directory, number)
        database.close()

    def check(self, directory, mark_text):
        database = sqlite3.connect(os.path.join(directory, 'database'))
        try:
            self.check_database(database, int(mark_text or 0))
        finally:
            database.close()

    def check_database(self, database, committed):
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'last'").fetchone():
            claim(committed == 0, 'the tables are gone')
            return
        claim(database.execute('PRAGMA integrity_check').fetchone()[0] == 'ok', 'integrity')
        (last,) = database.execute('SELECT number FROM last').fetchone()
        claim(committed <= last <= committed + 1, f'{committed} committed, {last} there')
        rows = database.execute('SELECT id, body FROM row ORDER BY id').fetchall()
        claim([row for row, _ in rows] == list(range(self.ROWS, (last + 1) * self.ROWS)), 'rows')
        for row, found in rows:
            claim(found == body(row, row * 97 % 3000), f'row {row} holds something else')


class Git:
    """Commits: git fsck is content, history ends with the last synced commit or the one after."""

    ENVIRONMENT = {**os.environ, 'GIT_CONFIG_GLOBAL': '/dev/null', 'GIT_CONFIG_NOSYSTEM': '1',
                   'GIT_AUTHOR_NAME': 'a', 'GIT_AUTHOR_EMAIL': 'a@b', 'GIT_COMMITTER_NAME': 'a',
                   'GIT_COMMITTER_EMAIL': 'a@b'}

    def git(self, directory, *arguments):
        repository = os.path.join(directory, 'repository')
        words = ['git', '-c', 'core.fsync=all', '-c', 'gc.auto=0', '-C', repository, *arguments]
        result = subprocess.run(words, env=self.ENVIRONMENT, text=True, check=False,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        claim(result.returncode == 0, f'{arguments}: {result.stdout}')
        return result.stdout.strip()

    def run(self, directory, rounds):
        repository = os.path.join(directory, 'repository')
        os.mkdir(repository)
        self.git(directory, 'init', '-q')
        for number in range(1, rounds + 1):
            for index in range(3):
                with open(os.path.join(repository, f'file-{number * index % 7}'), 'wb') as file:
                    file.write(body(number * 3 + index, number * 500))
            self.git(directory, 'add', '-A')
            self.git(directory, 'commit', '-q', '-m', f'commit {number}')
            if number % 8 == 0:
                self.git(directory, 'gc', '-q')
            # The rename of a reference is not synced by git.
            sync(directory)
            mark(directory, f'{number} {self.git(directory, "rev-parse", "HEAD")}')

    def check(self, directory, mark_text):
        if not mark_text:
            return
        number, commit = mark_text.split()
        self.git(directory, 'fsck', '--strict', '--no-progress')
        count = int(self.git(directory, 'rev-list', '--count', 'HEAD'))
        claim(int(number) <= count <= int(number) + 1, f'{number} commits synced, {count} there')
        found = self.git(directory, 'rev-parse', f'HEAD~{count - int(number)}')
        claim(found == commit, f'commit {number} is {found}, not {commit}')


class Editor:
    """Write a temporary file, fsync, rename over the document: it is whole, and the last synced
    version or newer. Every third time without fsync: whole all the same.
    """

    @staticmethod
    def version(number):
        return f'version {number}\n'.encode() + body(number, number * 1777 % 30000)

    def run(self, directory, rounds):
        document, temporary = (os.path.join(directory, name) for name in ('document', 'new'))
        for number in range(1, rounds + 1):
            with open(temporary, 'wb') as file:
                file.write(self.version(number))
                file.flush()
                if number % 3:
                    os.fsync(file.fileno())
            os.rename(temporary, document)
            if number % 3:
                fsync(directory)
                mark(directory, number)

    def check(self, directory, mark_text):
        synced = int(mark_text or 0)
        try:
            with open(os.path.join(directory, 'document'), 'rb') as file:
                found = file.read()
        except FileNotFoundError:
            claim(synced == 0, 'the document is gone')
            return
        versions = [number for number in range(synced, synced + 3)
                    if found == self.version(number)]
        claim(versions, f'after version {synced}: {found[:20]}, {len(found)} bytes')


class Spool:
    """Names without any data, as a mail queue has them: what is there is what was there after one
    of the operations since the last sync, in their order.
    """

    @staticmethod
    def operations(number):
        """What is done in a round: (what, name) each."""
        yield 'mkdir', f'new-{number}'
        yield 'symlink', f'new-{number}/to'
        yield 'rename', f'new-{number}'
        if number > 3:
            yield 'unlink', f'ready-{number - 3}/to'
            yield 'rmdir', f'ready-{number - 3}'

    @staticmethod
    def carry_out(directory, what, name):
        path = os.path.join(directory, name)
        if what == 'symlink':
            os.symlink('target', path)
        elif what == 'rename':
            os.rename(path, path.replace('new-', 'ready-'))
        else:
            getattr(os, what)(path)

    @staticmethod
    def imagine(names, what, name):
        if what == 'rename':
            return {other.replace(name, name.replace('new-', 'ready-'), 1)
                    if other.split('/')[0] == name else other for other in names}
        return names | {name} if what in ('mkdir', 'symlink') else names - {name}

    def run(self, directory, rounds):
        for number in range(1, rounds + 1):
            for what, name in self.operations(number):
                self.carry_out(directory, what, name)
            fsync(directory)
            mark(directory, number)

    def check(self, directory, mark_text):
        synced = int(mark_text or 0)
        found = {os.path.relpath(os.path.join(parent, name), directory)
                 for parent, names, files in os.walk(directory) for name in names + files}
        names = set()
        for number in range(1, synced + 1):
            for operation in self.operations(number):
                names = self.imagine(names, *operation)
        possible = [names]
        for operation in self.operations(synced + 1):
            possible.append(self.imagine(possible[-1], *operation))
        claim(found in possible, f'after round {synced}: {sorted(found)}')


APPLICATIONS = {'untar': Untar(), 'rollback': Database('DELETE'), 'wal': Database('WAL'),
                'git': Git(), 'editor': Editor(), 'spool': Spool()}


def answer(application, *question):
    try:
        application.check(*reversed(question))
    except Exception as exception:  # pylint: disable=broad-except
        return f'{type(exception).__name__}: {exception}'.replace('\n', ' ')
    return 'yes'


def main():
    application = APPLICATIONS[sys.argv[1]]
    if sys.argv[2] == 'run':
        application.run(sys.argv[3], int(sys.argv[4]))
    else:
        serve(functools.partial(answer, application), *sys.argv[3:])


main()
