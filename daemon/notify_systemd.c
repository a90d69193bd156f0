#include "daemon/notify.h"

#include <systemd/sd-daemon.h>

void notify_ready(void)
{
	sd_notify(0, "READY=1\nSTATUS=Serving");
}

void notify_stopping(void)
{
	sd_notify(0, "STOPPING=1\nSTATUS=Taking devices away");
}
