/* What is set on each socket that requests and replies come by. */
#pragma once

/*
 * TCP: nothing is held back to be sent with what follows, and a peer that has vanished is noticed.
 * A unix socket: takes a reply of 1 MiB at a time, or without CAP_NET_ADMIN twice
 * net.core.wmem_max. By default it takes 208 KiB (net.core.wmem_default), and who has more to send
 * sleeps until the peer has read some, which wakes both several times a reply. That is memory of
 * the kernel's, used while a peer is slow to read. TCP's buffers grow by themselves.
 *
 * What cannot be set is not: it works without. Any thread.
 */
void nbd_socket_prepare(int fd);
