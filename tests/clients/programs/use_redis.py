# SPDX-License-Identifier: MIT
"""use_redis.py HOST PORT: values, pipelines, blocking and published messages of a Redis server, by redis-py."""

import sys
import threading

import redis

with redis.Redis(host=sys.argv[1], port=int(sys.argv[2]), socket_timeout=30, socket_keepalive=True) as db:
    db.flushall()
    big = bytes(range(256)) * 8000
    db.set("big", big)
    print(db.get("big") == big)

    with db.pipeline() as pipe:
        for i in range(1000):
            pipe.incrby("sum", i)
        print(pipe.execute()[-1])

    with db.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe("news")
        while not db.publish("news", "hello"):
            pass
        message = None
        while message is None:
            message = channel.get_message(timeout=30)
        print(message["data"])

    print(db.blpop("queue", timeout=1))
    pushing = threading.Thread(target=db.rpush, args=("queue", "job"))
    pushing.start()
    print(db.blpop("queue", timeout=30))
    pushing.join()

    workers = [threading.Thread(target=lambda: [db.incr("count") for _ in range(50)]) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(db.get("count"))
