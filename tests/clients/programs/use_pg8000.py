# SPDX-License-Identifier: MIT
"""use_pg8000.py HOST PORT USER: a table, a transaction, an error and many rows of a PostgreSQL server, by pg8000."""

import sys

import pg8000.dbapi

db = pg8000.dbapi.connect(sys.argv[3], host=sys.argv[1], port=int(sys.argv[2]), database="postgres", timeout=30)
cursor = db.cursor()
cursor.execute("create temporary table words (id serial, word text)")
cursor.executemany("insert into words (word) values (%s)", [(f"word {i}" * 50,) for i in range(200)])
db.commit()
cursor.execute("select count(*), sum(length(word)) from words")
print(*cursor.fetchone())
cursor.execute("delete from words")
db.rollback()
cursor.execute("select count(*) from words")
print(*cursor.fetchone())
try:
    cursor.execute("select 1/0")
except pg8000.dbapi.DatabaseError as error:
    print(error.args[0]["M"])
db.rollback()
cursor.execute("select repeat('x', 1000) from generate_series(1, 2000)")
print(sum(len(row[0]) for row in cursor))
db.close()
