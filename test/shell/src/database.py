# SPDX-License-Identifier: GPL-2.0-or-later
"""database.py run|check FILE ROLLBACK_TRANSACTIONS WAL_TRANSACTIONS: SQLite as a durable client."""
import sqlite3
import sys


def run(path, rollback, wal):
    number = 0
    for mode, count in (('DELETE', rollback), ('WAL', wal)):
        database = sqlite3.connect(path, isolation_level=None)
        database.execute(f'PRAGMA journal_mode={mode}')
        database.execute('PRAGMA synchronous=FULL')
        database.execute('CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, body BLOB)')
        for _ in range(count):
            number += 1
            database.execute('BEGIN')
            database.execute('INSERT INTO t VALUES(?, randomblob(?))', (number, number % 900))
            database.execute('UPDATE t SET body = randomblob(100) WHERE id = ?', (number // 2,))
            database.execute('COMMIT')
        database.close()


def check(path, rollback, wal):
    database = sqlite3.connect(path)
    print('integrity:', database.execute('PRAGMA integrity_check').fetchone()[0])
    rows = database.execute('SELECT count(*), max(id) FROM t').fetchone()
    print('rows:', 'all' if rows == (rollback + wal, rollback + wal) else rows)
    database.close()


(run if sys.argv[1] == 'run' else check)(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
