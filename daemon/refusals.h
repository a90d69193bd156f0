/* NBD clients that were turned away, for the log. */
#pragma once

/*
 * A server's `refused`: logs the client, unless another one was logged less than ten seconds ago;
 * then the next line counts it. Any thread, a queue's too: it does not wait for the log.
 */
void refusals_note(const char *address, const char *peer, const char *why);
