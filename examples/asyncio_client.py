# SPDX-License-Identifier: MIT
"""asyncio's streams over KCP: kcpsock's socket has a real descriptor, so the event loop takes it as it is."""

import asyncio

import kcpsock


async def connect(address):
    sock = kcpsock.socket()
    sock.setblocking(False)
    try:
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, address), timeout=10)
        return await asyncio.open_connection(sock=sock)
    except BaseException:
        sock.close()
        raise


async def shout(reader, writer):
    writer.write((await reader.read()).upper())
    writer.close()


async def ask(address, text):
    reader, writer = await connect(address)
    writer.write(text.encode())
    writer.write_eof()
    answer = await reader.read()  # to the end
    writer.close()
    await writer.wait_closed()
    return answer.decode()


async def main():
    listener = kcpsock.create_server(("127.0.0.1", 0))
    async with await asyncio.start_server(shout, sock=listener):
        print(await asyncio.gather(*(ask(listener.getsockname(), text) for text in ("one", "two", "three"))))


asyncio.run(main())
