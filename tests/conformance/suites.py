# SPDX-License-Identifier: MIT
"""What of CPython's own tests is run over kcpsock, and each exception with its reason."""

# Longest first: they run side by side. What an interpreter doesn't have (asyncore ended with 3.11) is left out there.
SUITES = [
    "test_socket",
    "test_asyncore",
    "test_ssl",
    "test_logging",
    "test_selectors",
    "test_asyncio.test_events",
    "test_asyncio.test_ssl",
    "test_asyncio.test_sock_lowlevel",
    "test_asyncio.test_sendfile",
    "test_imaplib",
    "test_poplib",
    "test_ftplib",
    "test_urllib2_localnet",
    "test_asyncio.test_streams",
    "test_asyncio.test_sslproto",
    "test_asynchat",
    "test_httpservers",
    "test_smtplib",
    "test_docxmlrpc",
    "test_select",
    "test_xmlrpc",
    "test_timeout",
    "test_asyncio.test_base_events",
    "test_asyncio.test_buffered_proto",
    "test_asyncio.test_selector_events",
    "test_asyncio.test_server",
    "test_asyncio.test_unix_events",
    "test_epoll",
    "test_httplib",
    "test_nntplib",
    "test_robotparser",
    "test_smtpd",
    "test_socketserver",
    "test_telnetlib",
    "test_wsgiref",
]

# Of test_socket these classes must be there and run: what the promise is about. Ids begin with test.test_socket.
STREAM_CLASSES = [
    "BasicTCPTest",
    "BasicTCPTest2",
    "BufferIOTest",
    "ContextManagersTest",
    "CreateServerFunctionalTest",
    "CreateServerTest",
    "FileObjectClassTestCase",
    "GeneralModuleTests",
    "InheritanceTest",
    "InterruptedRecvTimeoutTest",
    "InterruptedSendTimeoutTest",
    "LineBufferedFileObjectClassTestCase",
    "NetworkConnectionAttributesTest",
    "NetworkConnectionBehaviourTest",
    "NetworkConnectionNoServer",
    "NonBlockingTCPTests",
    "RecvmsgIntoTCPTest",
    "RecvmsgTCPTest",
    "SendfileUsingSendTest",
    "SendfileUsingSendfileTest",
    "SendmsgTCPTest",
    "SmallBufferedFileObjectClassTestCase",
    "TCPCloserTest",
    "TCPTimeoutTest",
    "UnbufferedFileObjectClassTestCase",
    "UnicodeReadFileObjectClassTestCase",
    "UnicodeReadWriteFileObjectClassTestCase",
    "UnicodeWriteFileObjectClassTestCase",
]

# Pattern of ids -> why the test passes on TCP and may fail here. One that passes nevertheless is named in the output.
EXCEPTIONS = {
    "test.test_asyncore.*.test_handle_expt": (
        "MSG_OOB is accepted, and sends the byte in the stream: smux has no urgent pointer to make it exceptional with"
    ),
    "test.test_asyncio.test_sock_lowlevel.EPoll*.test_sock_client_connect_racing": (
        "connects again in the same turn in which an attempt was cancelled: the failed attempt's descriptor is "
        "replaced, epoll forgets it, and asyncio does not know"
    ),
    "test.test_asyncio.test_sendfile.*.test_sendfile_close_peer_in_the_middle_of_receiving": (
        "now and then: 256 KiB may be on their way before the peer's reset comes back, for SO_SNDBUF bounds the buffer "
        "of the descriptor, and the send window of KCP takes more"
    ),
    "test.test_socket.PurePythonSocketPairTest.test_injected_authentication_failure": (
        "patches the class in the module, and socket._fallback_socketpair goes on with the stdlib's: it is private, "
        "and passed on as it is"
    ),
    "test.test_epoll.TestEPoll.test_control_and_wait": (
        "expects what one end sent to be readable at the other when send() returns: true of TCP on loopback, where the "
        "kernel delivers within the call, and of no network"
    ),
}

# Pattern of ids -> why the test is not run, here or on TCP.
LEFT_OUT = {
    "test.test_timeout.TCPTimeoutTestCase.*": "dials www.python.org",
    "*VSOCK*": "hangs where the machine offers AF_VSOCK but has no host behind it, as in our CI, also with the stdlib",
}
