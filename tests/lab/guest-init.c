/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * guest-init: the first process of the test guest (see `guest`).
 *
 * It is a program and not a script because forks are dear where the guest is emulated. From
 * the initramfs it reads /job/conf, a line for each thing to do:
 *
 *     module FILE [PARAMETERS]    insert /modules/FILE
 *     net ADDRESS GATEWAY         bring eth0 up
 *     dir PATH                    bind the next writable directory here
 *     modules KVER                bind the kernel's modules to /lib/modules/KVER
 *     limit SECONDS               how long the command may run
 *
 * makes the host's root the guest's (read-only, with a tmpfs overlay), and runs /job/command
 * in it. Output leaves through the virtio ports `out` and `err`, the story of the run through
 * `ctl` (START, LIMIT, EXIT n), and the kernel's log through `log`.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EXIT_LIMIT    124 /* as timeout(1) says it */
#define KLOG_READ_ALL 3
#define KLOG_SIZE     (1 << 20)
#define LINE_SIZE     4096
#define PATH_SIZE     (LINE_SIZE + 64)
#define QUIET_MS      50   /* output is over when it rests so long after the command's end */
#define DRAIN_MS      5000 /* however busy the processes are that the command left behind */

static void power_off(void)
{
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

/* The console is all there is before the ports are open. */
__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	int error = errno;
	int console = open("/dev/console", O_WRONLY);
	va_list args;

	va_start(args, format);
	dprintf(console, "guest-init: ");
	vdprintf(console, format, args);
	dprintf(console, ": %s\n", strerror(error));
	va_end(args);
	usleep(20000); /* the serial line is slow */
	power_off();
	abort();
}

/* ---- small things */

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void write_all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		data += n;
		size -= n;
	}
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	write_all(fd, text, strlen(text));
	close(fd);
}

static void make_path(const char *path)
{
	char part[PATH_SIZE];

	snprintf(part, sizeof(part), "%s", path);
	for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(part, 0755);
		*slash = '/';
	}
	mkdir(part, 0755);
}

static void must_mount(const char *source, const char *target, const char *type,
		       unsigned long flags, const char *options)
{
	if (mount(source, target, type, flags, options) < 0)
		die("mount %s on %s", source, target);
}

static void may_mount(const char *type, const char *target, const char *options)
{
	mkdir(target, 0755);
	(void)!mount(type, target, type, 0, options);
}

/* Call @act with the rest of each line of /job/conf that starts with @word. */
static void each_line(const char *word, void (*act)(char *rest))
{
	FILE *conf = fopen("/job/conf", "re");
	size_t length = strlen(word);
	char line[LINE_SIZE];

	if (!conf)
		die("/job/conf");
	while (fgets(line, sizeof(line), conf)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, word, length) == 0 && line[length] == ' ')
			act(line + length + 1);
	}
	fclose(conf);
}

/* ---- setting up */

static void insert_module(char *line)
{
	char path[PATH_SIZE];
	char *parameters = strchr(line, ' ');
	int fd;

	if (parameters)
		*parameters++ = '\0';
	snprintf(path, sizeof(path), "/modules/%s", line);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die("%s", path);
	if (syscall(SYS_finit_module, fd, parameters ? parameters : "", 0) < 0 && errno != EEXIST)
		die("module %s", line);
	close(fd);
}

static void mount_root(void)
{
	must_mount("root", "/host", "virtiofs", MS_RDONLY, NULL);
	must_mount("tmpfs", "/overlay", "tmpfs", 0, "size=60%,mode=755");
	mkdir("/overlay/upper", 0755);
	mkdir("/overlay/work", 0755);
	must_mount("overlay", "/new", "overlay", 0,
		   "lowerdir=/host,upperdir=/overlay/upper,workdir=/overlay/work,xino=off");
	must_mount("work", "/work", "virtiofs", 0, NULL);
}

static void mount_fresh(void)
{
	must_mount("/dev", "/new/dev", NULL, MS_MOVE, NULL);
	must_mount("/proc", "/new/proc", NULL, MS_MOVE, NULL);
	must_mount("/sys", "/new/sys", NULL, MS_MOVE, NULL);
	must_mount("tmpfs", "/new/tmp", "tmpfs", 0, "mode=1777");
	must_mount("tmpfs", "/new/run", "tmpfs", 0, "mode=755");
	mkdir("/new/run/lock", 01777);
	may_mount("devpts", "/new/dev/pts", "mode=620,ptmxmode=666");
	may_mount("tmpfs", "/new/dev/shm", "mode=1777");
	may_mount("cgroup2", "/new/sys/fs/cgroup", NULL);
	may_mount("debugfs", "/new/sys/kernel/debug", NULL);
	may_mount("tracefs", "/new/sys/kernel/tracing", NULL);
	may_mount("configfs", "/new/sys/kernel/config", NULL);
}

static void link_standard_files(void)
{
	static const char *const links[][2] = {
		{ "/proc/self/fd", "/new/dev/fd" },
		{ "/proc/self/fd/0", "/new/dev/stdin" },
		{ "/proc/self/fd/1", "/new/dev/stdout" },
		{ "/proc/self/fd/2", "/new/dev/stderr" },
	};

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		(void)!symlink(links[i][0], links[i][1]);
}

/* The host numbers the directories as they come in the file. */
static void bind_directory(char *path)
{
	static int number;
	char source[64], target[PATH_SIZE];

	snprintf(source, sizeof(source), "/work/%d", number++);
	snprintf(target, sizeof(target), "/new%s", path);
	make_path(target);
	must_mount(source, target, NULL, MS_BIND, NULL);
}

static void bind_modules(char *kver)
{
	char target[PATH_SIZE];

	snprintf(target, sizeof(target), "/new/lib/modules/%s", kver);
	make_path(target);
	must_mount("/work/modules", target, NULL, MS_BIND, NULL);
}

/* A real move and not only a chroot, so that mountinfo and namespaces look as they should. */
static void switch_root(void)
{
	if (chdir("/new") < 0)
		die("/new");
	must_mount(".", "/", NULL, MS_MOVE, NULL);
	if (chroot(".") < 0 || chdir("/") < 0)
		die("chroot");
}

/* ---- network */

static void set_address(int sock, unsigned long request, const char *name, const char *address)
{
	struct ifreq ifr = { .ifr_addr.sa_family = AF_INET };
	struct sockaddr_in *in = (struct sockaddr_in *)&ifr.ifr_addr;

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	inet_aton(address, &in->sin_addr);
	if (ioctl(sock, request, &ifr) < 0)
		die("address %s on %s", address, name);
}

static void link_up(int sock, const char *name)
{
	struct ifreq ifr = { .ifr_flags = IFF_UP | IFF_RUNNING };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(sock, SIOCSIFFLAGS, &ifr) < 0)
		die("%s up", name);
}

static void set_route(int sock, const char *gateway)
{
	struct sockaddr_in hop = { .sin_family = AF_INET }, any = { .sin_family = AF_INET };
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };

	inet_aton(gateway, &hop.sin_addr);
	memcpy(&route.rt_gateway, &hop, sizeof(hop));
	memcpy(&route.rt_dst, &any, sizeof(any));
	memcpy(&route.rt_genmask, &any, sizeof(any));
	if (ioctl(sock, SIOCADDRT, &route) < 0)
		die("route");
}

static void start_loopback(void)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	link_up(sock, "lo");
	close(sock);
}

static void start_network(char *line)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char address[32], gateway[32];

	if (sscanf(line, "%31s %31s", address, gateway) != 2)
		die("net %s", line);
	set_address(sock, SIOCSIFADDR, "eth0", address);
	set_address(sock, SIOCSIFNETMASK, "eth0", "255.255.255.0");
	link_up(sock, "eth0");
	set_route(sock, gateway);
	close(sock);
}

/*
 * The guest boots on one CPU and gets the others here: an emulated guest crashes now and then
 * when the kernel patches its own code while a second CPU runs it.
 */
static void start_cpus(void)
{
	char path[64];

	for (int cpu = 1;; cpu++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
		if (access(path, W_OK) < 0)
			return;
		write_file(path, "1");
	}
}

/* ---- the virtio ports */

static bool port_is(const char *port, const char *wanted)
{
	char path[PATH_SIZE], name[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", port);
	file = fopen(path, "re");
	if (!file)
		return false;
	(void)!fscanf(file, "%63s", name);
	fclose(file);
	return strcmp(name, wanted) == 0;
}

static int open_port(const char *name)
{
	DIR *ports = opendir("/sys/class/virtio-ports");
	char path[PATH_SIZE];
	struct dirent *entry;
	int fd;

	while (ports && (entry = readdir(ports))) {
		if (!port_is(entry->d_name, name))
			continue;
		snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			die("%s", path);
		closedir(ports);
		return fd;
	}
	errno = ENOENT;
	die("virtio port %s", name);
}

/* ---- the command */

struct run {
	pid_t pid;
	long deadline; /* 0: none */
	bool done;
	long done_at;
	int status;
	int ctl;
	int out[2];	       /* the ports of stdout and stderr, and */
	struct pollfd pipe[2]; /* the pipes that lead to them */
};

static long limit_s;

static void read_limit(char *line)
{
	limit_s = strtol(line, NULL, 10);
}

/* The script was in the initramfs, which is out of sight once the root has changed. */
static void copy_command(void)
{
	int from = open("/job/command", O_RDONLY | O_CLOEXEC);
	int to = open("/new/run/guest-command", O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	char buffer[LINE_SIZE];
	ssize_t n;

	if (from < 0 || to < 0)
		die("/job/command");
	while ((n = read(from, buffer, sizeof(buffer))) > 0)
		write_all(to, buffer, n);
	close(from);
	close(to);
}

static void become_command(int out, int err)
{
	char *environment[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root",
		"LANG=C.UTF-8",
		"TERM=dumb",
		NULL,
	};

	setsid();
	dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	execle("/bin/bash", "bash", "/run/guest-command", NULL, environment);
	_exit(127);
}

static void start_command(struct run *run)
{
	int out[2], err[2];

	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
		die("pipe");
	if (limit_s > 0)
		run->deadline = now_ms() + limit_s * 1000;
	dprintf(run->ctl, "START\n");
	run->pid = fork();
	if (run->pid < 0)
		die("fork");
	if (run->pid == 0)
		become_command(out[1], err[1]);
	close(out[1]);
	close(err[1]);
	run->pipe[0] = (struct pollfd){ .fd = out[0], .events = POLLIN };
	run->pipe[1] = (struct pollfd){ .fd = err[0], .events = POLLIN };
}

/* Returns whether there was anything to forward. */
static bool forward(struct run *run, int timeout_ms)
{
	static char buffer[65536];
	bool any = false;

	if (poll(run->pipe, 2, timeout_ms) <= 0)
		return false;
	for (int i = 0; i < 2; i++) {
		ssize_t n;

		if (run->pipe[i].fd < 0 || !run->pipe[i].revents)
			continue;
		n = read(run->pipe[i].fd, buffer, sizeof(buffer));
		if (n > 0)
			write_all(run->out[i], buffer, n);
		else
			run->pipe[i].fd = -1;
		any |= n > 0;
	}
	return any;
}

static void finish(struct run *run, int status)
{
	run->done = true;
	run->done_at = now_ms();
	run->status = status;
}

/* As the first process it inherits, and has to reap, all orphans. */
static void reap(struct run *run)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != run->pid || run->done)
			continue;
		finish(run, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	}
}

/* What hangs shows in the kernel's log: the stacks of all blocked tasks. */
static void enforce_limit(struct run *run)
{
	if (run->done || !run->deadline || now_ms() < run->deadline)
		return;
	dprintf(run->ctl, "LIMIT\n");
	write_file("/proc/sysrq-trigger", "w");
	kill(-run->pid, SIGKILL);
	finish(run, EXIT_LIMIT);
}

static void watch_command(struct run *run)
{
	while (!run->done) {
		forward(run, 20);
		reap(run);
		enforce_limit(run);
	}
	/* Daemons that it left behind may hold the pipes open: wait for silence, not for their end.
	 */
	while (forward(run, QUIET_MS) && now_ms() - run->done_at < DRAIN_MS)
		;
}

static void send_kernel_log(void)
{
	char *log = malloc(KLOG_SIZE);
	int size = log ? klogctl(KLOG_READ_ALL, log, KLOG_SIZE) : -1;

	if (size > 0)
		write_all(open_port("log"), log, size);
	free(log);
}

static void run_command(int work)
{
	struct run run = { .ctl = open_port("ctl"), .out = { open_port("out"), open_port("err") } };

	start_command(&run);
	watch_command(&run);
	send_kernel_log();
	/* Only what the host keeps is flushed: a sync of all would wait for a dead device as well.
	 */
	if (work >= 0)
		syncfs(work);
	dprintf(run.ctl, "EXIT %d\n", run.status);
}

int main(void)
{
	int work;

	must_mount("proc", "/proc", "proc", 0, NULL);
	must_mount("sysfs", "/sys", "sysfs", 0, NULL);
	must_mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	each_line("module", insert_module);
	mount_root();
	mount_fresh();
	link_standard_files();
	each_line("dir", bind_directory);
	each_line("modules", bind_modules);
	each_line("limit", read_limit);
	start_loopback();
	each_line("net", start_network);
	copy_command();
	(void)!sethostname("guest", 5);
	work = open("/work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	switch_root();
	start_cpus();
	run_command(work);
	power_off();
}
