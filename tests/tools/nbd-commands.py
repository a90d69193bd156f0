#!/usr/bin/python3
"""nbd-commands.py SOCKET [file|null|rbd]: every command and flag of the NBD server, through libnbd.

The server offers "disk", a file of 64 MiB beside the socket, with nothing written; or null, which
stores nothing; or an RBD image, which knows holes by the object. Exits with 1 at the first thing that
is not as it should be.
"""

import errno
import os
import struct
import subprocess
import sys
import tempfile

import nbd

SIZE = 64 * 1024 * 1024
OBJECT = 4 * 1024 * 1024
PAYLOAD_MAX = 32 * 1024 * 1024
SOCKET = sys.argv[1]
KIND = sys.argv[2] if len(sys.argv) > 2 else "file"


def connect(name="disk", structured=True, context=False, strict=False):
    handle = nbd.NBD()
    handle.set_export_name(name)
    handle.set_request_structured_replies(structured)
    if context:
        handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    if not strict:
        handle.set_strict_mode(0)
    handle.connect_unix(SOCKET)
    return handle


def expect(wanted, call, *args, **kwargs):
    """The call fails with this errno."""
    try:
        call(*args, **kwargs)
    except nbd.Error as error:
        assert error.errnum == wanted, f"{call.__name__}{args[1:]}: {error}, not {wanted}"
        return
    raise AssertionError(f"{call.__name__}{args[1:]} did not fail with {wanted}")


def stored(data):
    """What is read where @data was written."""
    return bytes(len(data)) if KIND == "null" else data


def check_offer(handle):
    assert handle.get_size() == SIZE
    assert not handle.is_read_only() and not handle.is_rotational()
    for can in ("flush", "fua", "trim", "zero", "fast_zero", "cache", "multi_conn"):
        assert getattr(handle, "can_" + can)(), can
    assert handle.get_block_size(nbd.SIZE_MINIMUM) in (512, 4096)
    assert handle.get_block_size(nbd.SIZE_MAXIMUM) == 1 << 20


def check_data(handle):
    data = bytes(range(256)) * 256
    handle.pwrite(data, 65536)
    assert handle.pread(65536, 65536) == stored(data)
    handle.pwrite(data, 131072, nbd.CMD_FLAG_FUA)
    assert handle.pread(4096, 131072 + 4096) == stored(data[4096:8192])
    handle.zero(4096, 65536)
    assert handle.pread(8192, 65536) == bytes(4096) + stored(data[4096:8192])
    handle.zero(4096, 69632, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
    assert handle.pread(8192, 65536) == bytes(8192)
    handle.trim(65536, 131072)
    handle.trim(65536, 131072, nbd.CMD_FLAG_FUA)
    handle.cache(65536, 0)
    handle.flush()
    big = data * 32
    handle.pwrite(big, 1 << 20)
    assert handle.pread(len(big), 1 << 20) == stored(big)
    handle.zero(SIZE - (1 << 20), 1 << 20)
    assert handle.pread(len(big), 1 << 20) == bytes(len(big))


def file_system_can(option):
    """Whether it zeroes a range in the way of fallocate(1)'s @option, where the image is."""
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(SOCKET)) as file:
        file.truncate(65536)
        return subprocess.run(["fallocate", option, "--keep-size", "--length", "65536", file.name],
                              stderr=subprocess.DEVNULL, check=False).returncode == 0


def is_fast(flags):
    """Whether zeroing needs no writing of zeroes: RBD has no zeroes without holes."""
    keeps = flags & nbd.CMD_FLAG_NO_HOLE
    if KIND == "file":
        return file_system_can("--zero-range" if keeps else "--punch-hole")
    return KIND == "null" or not keeps


def check_fast_zero(handle):
    """It zeroes, or says at once that it would not be fast and has changed nothing."""
    data = b"f" * 65536
    for flags in (nbd.CMD_FLAG_FAST_ZERO, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_FUA,
                  nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE):
        handle.pwrite(data, OBJECT)
        if is_fast(flags):
            handle.zero(len(data), OBJECT, flags)
            assert handle.pread(len(data), OBJECT) == bytes(len(data)), flags
        else:
            expect(errno.ENOTSUP, handle.zero, len(data), OBJECT, flags)
            assert handle.pread(len(data), OBJECT) == stored(data), flags


def check_errors(handle, structured):
    too_much = errno.EOVERFLOW if structured else errno.EINVAL
    expect(errno.EINVAL, handle.pread, 4096, SIZE)
    expect(errno.EINVAL, handle.pread, 4096, 100)
    expect(errno.EINVAL, handle.pread, 0, 0)
    expect(errno.ENOSPC, handle.pwrite, bytes(4096), SIZE - 2048)
    expect(errno.ENOSPC, handle.zero, 4096, SIZE)
    expect(errno.EINVAL, handle.trim, 4096, SIZE)
    expect(errno.EINVAL, handle.pread, 4096, 0, 1 << 9)
    expect(errno.EINVAL, handle.pwrite, bytes(4096), 0, nbd.CMD_FLAG_REQ_ONE)
    expect(errno.EINVAL, handle.cache, 4096, SIZE)
    expect(errno.EINVAL, handle.flush, nbd.CMD_FLAG_DF)
    expect(too_much, handle.pread, PAYLOAD_MAX + 4096, 0)
    assert len(handle.pread(PAYLOAD_MAX, 0)) == PAYLOAD_MAX
    handle.pread(4096, 0)


def check_reads(handle):
    """Structured replies: a chunk that bears its offset, or an error."""
    seen = []

    def chunk(data, offset, status, error):
        seen.append((bytes(data), offset, status, error.value))

    handle.pwrite(b"x" * 4096, 8192)
    for flags in (0, nbd.CMD_FLAG_DF):
        del seen[:]
        handle.pread_structured(4096, 8192, chunk, flags)
        assert seen == [(stored(b"x" * 4096), 8192, nbd.READ_DATA, 0)], seen[0][1:]
    expect(errno.EINVAL, handle.pread_structured, 4096, SIZE, chunk)


def check_chunks(handle):
    """No chunk bears more than the largest payload that the server tells; all bear the whole."""
    most, seen = handle.get_block_size(nbd.SIZE_MAXIMUM), {}
    data = b"".join(struct.pack(">Q", i) for i in range(most // 2))

    def chunk(part, offset, status, error):
        assert (status, error.value) == (nbd.READ_DATA, 0) and len(part) <= most, (len(part), status, error)
        seen[offset] = bytes(part)

    handle.pwrite(data, 4096)
    assert handle.pread_structured(len(data), 4096, chunk) == stored(data)
    assert b"".join(seen[offset] for offset in sorted(seen)) == stored(data)
    expect(errno.EOVERFLOW, handle.pread_structured, most + 4096, 4096, chunk, nbd.CMD_FLAG_DF)
    seen.clear()
    handle.pread_structured(PAYLOAD_MAX, 0, chunk)
    assert sum(map(len, seen.values())) == PAYLOAD_MAX


def first_extents():
    """Of an image with 64 KiB at 1 MiB; RBD tells them by the byte or by the object."""
    hole = nbd.STATE_HOLE | nbd.STATE_ZERO
    if KIND == "null":
        return [SIZE, hole]
    if KIND == "rbd":
        return [OBJECT, 0, SIZE - OBJECT, hole]
    return [1 << 20, hole, 65536, 0, SIZE - (1 << 20) - 65536, hole]


def check_status(handle):
    extents = []

    def gather(context, offset, entries, error):
        assert context == nbd.CONTEXT_BASE_ALLOCATION
        extents.extend(entries)

    handle.zero(SIZE, 0)
    handle.pwrite(b"x" * 65536, 1 << 20)
    handle.block_status(SIZE, 0, gather)
    assert sum(extents[0::2]) == SIZE, extents
    assert extents[:6] == first_extents(), extents
    expect(errno.EINVAL, handle.block_status, SIZE, 1 << 20, gather, nbd.CMD_FLAG_REQ_ONE)


def check_one_extent(handle):
    extents = []
    handle.block_status(4096, 1 << 20, lambda c, o, e, r: extents.extend(e) or 0,
                        nbd.CMD_FLAG_REQ_ONE)
    hole = nbd.STATE_HOLE | nbd.STATE_ZERO
    assert extents == [4096, hole if KIND == "null" else 0], extents


def check_multi_conn():
    """A flush on one of many connections, after writes completed on the others."""
    handles = [connect() for _ in range(16)]
    for i, handle in enumerate(handles):
        handle.pwrite(bytes([i + 1]) * 4096, i * 4096)
    handles[0].flush()
    for i, handle in enumerate(handles):
        assert handles[-1 - i].pread(4096, i * 4096) == stored(bytes([i + 1]) * 4096)
    for handle in handles:
        handle.shutdown()


def check_options():
    handle = nbd.NBD()
    handle.set_opt_mode(True)
    handle.connect_unix(SOCKET)
    names = []
    handle.opt_list(lambda name, description: names.append(name) or 0)
    assert names == ["disk"], names
    handle.set_export_name("none")
    expect(errno.ENOENT, handle.opt_info)
    handle.set_export_name("")
    handle.set_full_info(True)
    handle.opt_info()
    assert handle.get_canonical_export_name() == "disk"
    assert handle.get_export_description()
    contexts = []
    handle.opt_list_meta_context(lambda name: contexts.append(name) or 0)
    assert contexts == ["base:allocation"], contexts
    handle.opt_go()
    handle.pread(512, 0)
    handle.shutdown()
    handle = nbd.NBD()
    handle.set_opt_mode(True)
    handle.connect_unix(SOCKET)
    handle.opt_abort()


def check_old_client():
    """EXPORT_NAME, no structured replies, and zeroes behind the reply."""
    for flags in (0, nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE, nbd.HANDSHAKE_FLAG_MASK):
        handle = nbd.NBD()
        handle.set_handshake_flags(flags)
        handle.set_export_name("disk")
        handle.connect_unix(SOCKET)
        assert handle.get_size() == SIZE
        handle.pread(4096, 0)
        handle.shutdown()


def main():
    for structured in (True, False):
        handle = connect(structured=structured)
        check_offer(handle)
        check_data(handle)
        check_fast_zero(handle)
        check_errors(handle, structured)
        handle.shutdown()
    handle = connect()
    check_reads(handle)
    check_chunks(handle)
    handle.shutdown()
    handle = connect(context=True)
    check_status(handle)
    check_one_extent(handle)
    handle.shutdown()
    check_multi_conn()
    check_options()
    check_old_client()


main()
