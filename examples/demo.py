# SPDX-License-Identifier: MIT
"""`make demo`: requests fetches a file from http.server over KCP, through a link with 5 % loss and 40 ms round trip.

Neither requests nor http.server is changed: both get kcpsock under the name "socket". The server is a process of its
own, examples/serve_directory.py. Exit status 0 means that the file arrived whole.
"""

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "random.bin"
CHUNK_BYTES = 256 * 1024
SILENCE_S = 20  # no byte for so long ends the demo


@contextmanager
def server(directory):
    """Run serve_directory.py; gives the process and its port."""
    command = [sys.executable, str(ROOT / "examples" / "serve_directory.py"), str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            line = process.stdout.readline()
            if not line:
                sys.exit(f"demo: the server ended at once; try: {' '.join(command)}")
            yield process, int(line.rstrip("/\n").rpartition(":")[2])
        finally:
            process.kill()


def fetch(url, size):
    """Get url by requests over KCP. Returns its SHA-256, the seconds it took, and the connection's kcp_info()."""
    import kcpsock

    sys.modules["socket"] = kcpsock  # before requests and urllib3 are imported
    import requests

    digest = hashlib.sha256()
    done = 0
    session = requests.Session()
    session.trust_env = False  # no proxy from the environment
    start = time.monotonic()
    try:
        with session, session.get(url, stream=True, timeout=SILENCE_S) as response:
            response.raise_for_status()
            sock = response.raw.connection.sock
            for chunk in response.iter_content(CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                show_progress(done, size, time.monotonic() - start)
            return digest.hexdigest(), time.monotonic() - start, sock.kcp_info()
    except requests.RequestException as error:
        sys.exit(f"demo: after {done:,} bytes: {error}")


def show_progress(done, size, seconds):
    # A terminal sees the bar grow; a log gets it once.
    if sys.stdout.isatty() or done == size:
        bar = "#" * (40 * done // size)
        text = f"[{bar:40}] {done / 1e6:5.1f} of {size / 1e6:.1f} MB, {done / 1e6 / seconds:.1f} MB/s"
        print(text, end="\n" if done == size else "\r", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--loss", type=float, default=0.05, help="share of packets lost, each way (%(default)s)")
    parser.add_argument("--rtt-ms", type=int, default=40, help="round trip of the link (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the file and of the losses (%(default)s)")
    args = parser.parse_args()

    sys.path.insert(0, str(ROOT))
    from tests.support.lossylink import LossyLink

    data = random.Random(args.seed).randbytes(args.megabytes * 1_000_000)
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, NAME).write_bytes(data)
        with server(directory) as (process, port), LossyLink(
            target=("127.0.0.1", port), seed=args.seed, delay_ms=args.rtt_ms / 2, loss=args.loss
        ) as link:
            print(f"{NAME}: http.server -> KCP, {args.loss:.0%} loss, {args.rtt_ms} ms round trip -> requests")
            digest, seconds, info = fetch(f"http://127.0.0.1:{link.address[1]}/{NAME}", len(data))
            down = link.stats()["down"]
            expected = hashlib.sha256(data).hexdigest()
            if digest != expected:
                sys.exit(f"demo: the file arrived damaged: its SHA-256 is {digest}, that of the original {expected}")
            print(f"SHA-256  {digest}, as it should be")
            print(f"goodput  {len(data) / 1e6 / seconds:.1f} MB/s")
            print(f"client   srtt {info.srtt_ms} ms, {info.retrans_segs} retransmissions, loss {info.loss:.1%}")
            lost, packets = down["lost"], down["received"]
            print(f"link     {lost} of {packets} packets to the client lost ({lost / packets:.1%})")
            process.terminate()  # while the link is there: both ends still say goodbye over it
            print("server  ", process.communicate(timeout=SILENCE_S)[0].strip())


if __name__ == "__main__":
    main()
