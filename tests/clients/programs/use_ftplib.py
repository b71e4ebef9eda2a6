# SPDX-License-Identifier: MIT
"""use_ftplib.py HOST PORT: files up, down and listed in passive mode, by ftplib."""

import ftplib
import io
import sys

data = bytes(range(256)) * 8000
with ftplib.FTP(timeout=30) as ftp:
    ftp.connect(sys.argv[1], int(sys.argv[2]))
    ftp.login("ada", "secret")
    ftp.storbinary("STOR up.bin", io.BytesIO(data))
    got = io.BytesIO()
    ftp.retrbinary("RETR up.bin", got.write)
    print(got.getvalue() == data, ftp.size("up.bin"), ftp.nlst())
    ftp.delete("up.bin")
    print(ftp.nlst())
    try:
        ftp.retrbinary("RETR up.bin", got.write)
    except ftplib.error_perm as error:
        print(error.args[0][:3])
    print(ftp.quit()[:3])
