/* Word to the service manager. Without libsystemd (meson feature `systemd`) a sibling file says
 * nothing. */
#pragma once

void notify_ready(void);
void notify_stopping(void);
