# SPDX-License-Identifier: MIT
"""use_smtplib.py HOST PORT CA_FILE: sends a mail after STARTTLS, by smtplib."""

import smtplib
import ssl
import sys

host, port, ca_file = sys.argv[1:]
with smtplib.SMTP(host, int(port), timeout=30) as smtp:
    try:
        smtp.sendmail("ada@example.org", ["bob@example.org"], "in the clear")
    except smtplib.SMTPResponseException as error:
        print(error.smtp_code)
    smtp.starttls(context=ssl.create_default_context(cafile=ca_file))
    smtp.ehlo()
    print(smtp.sendmail("ada@example.org", ["bob@example.org"], "Subject: x\n\n" + "line\n" * 50_000))
    print(smtp.sock.version().startswith("TLS"))
