/* The first process of a hardened virtual machine: prepares the system, gives up its own files,
 * starts the service as its user without privileges, and carries the service's output to the
 * console until it ends.
 *
 * Told what to do by /.ringfence/settings: NUL-terminated words KEY=VALUE, obeyed in order within
 * each step (settings.py writes them). Address and gateway come from the kernel's command line,
 * which hands unknown words on as environment: rf_address=10.0.2.15/24 rf_gateway=10.0.2.2.
 *
 * Sources: init/main.c and Documentation/admin-guide/kernel-parameters.rst in Linux, mount(2),
 * finit_module(2), capabilities(7), seccomp(2), netdevice(7).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <net/route.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define OWN "/.ringfence/"
#define MOST_WORDS 1024
#define MOST_SETTINGS (1 << 20)
#define MOST_GROUPS 64
#define LINK "eth0"
#define LINK_WAIT_MS 5000 /* for the network device to appear */
/* include/uapi/linux/{capability,prctl,seccomp,filter,securebits}.h: not in musl's own headers */
#define CAPABILITY_VERSION 0x20080522
#define CAP_KILL 5
#define CAP_NET_ADMIN 12
#define CAP_SYS_BOOT 22
#define LAST_CAPABILITY 63
#define SECCOMP_FILTER 2
#define SECUREBITS_LOCKED 0xef /* no root by number, no setuid fixup, both locked; no keepcaps */

struct filter { unsigned short length; void *program; };
struct capability_header { uint32_t version; int pid; };
struct capability_data { uint32_t effective, permitted, inheritable; };

static char settings[MOST_SETTINGS];
static size_t settings_length;
static int console = -1;

static void say(const char *form, ...)
{
	char line[512];
	va_list words;
	va_start(words, form);
	int length = vsnprintf(line, sizeof line, form, words);
	va_end(words);
	if (length > (int)sizeof line - 1)
		length = sizeof line - 1;
	if (console >= 0 && length > 0 && write(console, line, length) < 0)
		return;
}

/* An interface up or down; 0 where that is done. */
static int turn(int line, const char *name, int on)
{
	struct ifreq ask = {0};
	strncpy(ask.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(line, SIOCGIFFLAGS, &ask))
		return -1;
	ask.ifr_flags = on ? ask.ifr_flags | IFF_UP | IFF_RUNNING : ask.ifr_flags & ~IFF_UP;
	return ioctl(line, SIOCSIFFLAGS, &ask);
}

/* The network first: a virtio_net that still sends while its device is shut down goes round for
 * ever (virtnet_poll_cleantx in Linux before commit 0d0eff39ceb3 of August 2026), and the machine
 * never ends. A service's last answer is still being sent when the service ends. */
static void power_off(void)
{
	int line = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (line >= 0)
		turn(line, LINK, 0);
	sync();
	reboot(RB_POWER_OFF);
}

/* What cannot be prepared must not run half fenced: the machine is turned off. */
static void fail(const char *what, const char *where)
{
	say("ringfence init: %s %s: %s\n", what, where, strerror(errno));
	power_off();
	_exit(1);
}

/* The value of the next setting called `key` after `*at`; NULL when there is none. */
static char *next(const char *key, size_t *at)
{
	size_t length = strlen(key);
	while (*at < settings_length) {
		char *word = settings + *at;
		*at += strlen(word) + 1;
		if (!strncmp(word, key, length) && word[length] == '=')
			return word + length + 1;
	}
	return NULL;
}

static char *only(const char *key)
{
	size_t at = 0;
	char *value = next(key, &at);
	if (!value) {
		errno = EINVAL;
		fail("no setting", key);
	}
	return value;
}

static void make(const char *path, mode_t mode)
{
	if (mkdir(path, mode) && errno != EEXIST)
		fail("mkdir", path);
}

static void mounted(const char *type, const char *path, unsigned long flags, const char *data)
{
	if (mount(type, path, type, flags, data))
		fail("mount", path);
}

static void device(const char *path, mode_t mode, unsigned int major, unsigned int minor)
{
	if (mknod(path, S_IFCHR | mode, makedev(major, minor)) || chmod(path, mode))
		fail("mknod", path);
}

/* Documentation/admin-guide/devices.txt */
static void system_folders(void)
{
	const unsigned long nothing = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	umask(0);
	make("/proc", 0755);
	make("/sys", 0755);
	make("/dev", 0755);
	mounted("tmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755,size=64k,nr_inodes=64");
	device("/dev/console", 0600, 5, 1);
	device("/dev/null", 0666, 1, 3);
	device("/dev/zero", 0666, 1, 5);
	device("/dev/full", 0666, 1, 7);
	device("/dev/random", 0666, 1, 8);
	device("/dev/urandom", 0666, 1, 9);
	console = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);
	mounted("proc", "/proc", nothing, "hidepid=2");
	mounted("sysfs", "/sys", nothing, NULL);
	if (symlink("/proc/self/fd", "/dev/fd") || symlink("/proc/self/fd/0", "/dev/stdin") ||
	    symlink("/proc/self/fd/1", "/dev/stdout") || symlink("/proc/self/fd/2", "/dev/stderr"))
		fail("symlink", "/dev");
	umask(022);
}

static void read_settings(void)
{
	int file = open(OWN "settings", O_RDONLY | O_CLOEXEC);
	ssize_t got = file < 0 ? -1 : read(file, settings, sizeof settings - 1);
	if (got <= 0)
		fail("read", OWN "settings");
	settings_length = got;
	close(file);
}

static void load_modules(void)
{
	size_t at = 0;
	for (char *path; (path = next("module", &at));) {
		int file = open(path, O_RDONLY | O_CLOEXEC);
		if (file < 0 || (syscall(SYS_finit_module, file, "", 0) && errno != EEXIST))
			fail("load", path);
		close(file);
	}
}

static void set_address(int line, const char *name, unsigned long what, const char *address)
{
	struct ifreq ask = {0};
	struct sockaddr_in *place = (struct sockaddr_in *)&ask.ifr_addr;
	strncpy(ask.ifr_name, name, IFNAMSIZ - 1);
	place->sin_family = AF_INET;
	if (inet_pton(AF_INET, address, &place->sin_addr) != 1)
		errno = EINVAL;
	else if (!ioctl(line, what, &ask))
		return;
	fail("address", address);
}

static void up(int line, const char *name)
{
	if (turn(line, name, 1))
		fail("interface", name);
}

static void set_gateway(int line, const char *address)
{
	struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
	struct sockaddr_in *way = (struct sockaddr_in *)&route.rt_gateway;
	route.rt_dst.sa_family = route.rt_genmask.sa_family = way->sin_family = AF_INET;
	if (inet_pton(AF_INET, address, &way->sin_addr) != 1 || ioctl(line, SIOCADDRT, &route))
		fail("gateway", address);
}

/* Loopback, and the address of the command line. Without a device there is no network: said, and
 * gone on without, since a machine may be started without one on purpose. */
static void network(void)
{
	const char *name = LINK, *given = getenv("rf_address"), *gateway = getenv("rf_gateway");
	int line = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (line < 0)
		fail("socket", "AF_INET");
	up(line, "lo");
	for (int waited = 0; given && !if_nametoindex(name); waited += 10) {
		if (waited >= LINK_WAIT_MS) {
			say("ringfence init: no network device\n");
			given = NULL;
		}
		usleep(10000);
	}
	if (given) {
		char address[64], mask[INET_ADDRSTRLEN];
		snprintf(address, sizeof address, "%s", given);
		char *slash = strchr(address, '/');
		int bits = slash ? atoi(slash + 1) : 32;
		struct in_addr net = {htonl(bits > 0 ? ~0u << (32 - (bits > 32 ? 32 : bits)) : 0)};
		if (slash)
			*slash = 0;
		inet_ntop(AF_INET, &net, mask, sizeof mask);
		set_address(line, name, SIOCSIFADDR, address);
		set_address(line, name, SIOCSIFNETMASK, mask);
		up(line, name);
		if (gateway)
			set_gateway(line, gateway);
	}
	close(line);
}

/* write=PATH VALUE: kernel settings, where this kernel has them. */
static void kernel_settings(void)
{
	size_t at = 0;
	if (mount("securityfs", "/sys/kernel/security", "securityfs", 0, NULL) && errno != ENOENT && errno != ENODEV)
		say("ringfence init: no securityfs: %s\n", strerror(errno));
	for (char *path; (path = next("write", &at));) {
		char *value = strchr(path, ' ');
		if (!value)
			continue;
		*value = 0;
		int file = open(path, O_WRONLY | O_CLOEXEC);
		if (file >= 0 && write(file, value + 1, strlen(value + 1)) < 0)
			say("ringfence init: %s: %s\n", path, strerror(errno));
		if (file >= 0)
			close(file);
		*value = ' ';
	}
	umount2("/sys/kernel/security", MNT_DETACH);
}

/* Folders that the service may write: mounts of their own, so that the rest can be read-only. */
static void writable_folders(void)
{
	const unsigned long nothing = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	size_t at = 0;
	for (char *path; (path = next("writable", &at));) {
		if (!strncmp(path, "/dev/", 5)) {
			char owner[96];
			snprintf(owner, sizeof owner, "mode=0700,uid=%s,gid=%s", only("uid"), only("gid"));
			make(path, 0700);
			mounted("tmpfs", path, nothing, owner);
		} else if (mount(path, path, NULL, MS_BIND, NULL) ||
			   mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | nothing, NULL)) {
			fail("bind", path);
		}
	}
}

/* mask=PATH: nothing is seen there; readonly=PATH: nothing is written there. */
static void close_system(void)
{
	const unsigned long nothing = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY;
	struct stat found;
	size_t at = 0;
	for (char *path; (path = next("mask", &at));) {
		if (stat(path, &found))
			continue;
		if (S_ISDIR(found.st_mode))
			mounted("tmpfs", path, nothing, "size=4k,nr_inodes=2");
		else if (mount("/dev/null", path, NULL, MS_BIND, NULL))
			fail("mask", path);
	}
	at = 0;
	for (char *path; (path = next("readonly", &at));) {
		if (stat(path, &found))
			continue;
		if (mount(path, path, NULL, MS_BIND, NULL) ||
		    mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | nothing, NULL))
			fail("read-only", path);
	}
	if (mount(NULL, "/sys", NULL, MS_REMOUNT | MS_BIND | nothing, NULL))
		fail("read-only", "/sys");
	if (mount(NULL, "/dev", NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NOEXEC | MS_RDONLY, NULL))
		fail("read-only", "/dev");
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_RDONLY, NULL))
		fail("read-only", "/");
}

/* own=PATH: files of ours, which nothing needs any more. */
static void remove_own(void)
{
	size_t at = 0;
	for (char *path; (path = next("own", &at));)
		unlink(path);
	rmdir(OWN);
}

static void limit(int what, const char *key)
{
	rlim_t most = strtoul(only(key), NULL, 10);
	if (setrlimit(what, &(struct rlimit){most, most}))
		fail("limit", key);
}

static void drop_bounding(void)
{
	for (int number = 0; number <= LAST_CAPABILITY; number++)
		if (prctl(PR_CAPBSET_DROP, number, 0, 0, 0) && errno != EINVAL)
			fail("capability", "bounding set");
}

static void set_capabilities(uint32_t low)
{
	struct capability_header header = {CAPABILITY_VERSION, 0};
	struct capability_data data[2] = {{low, low, 0}, {0, 0, 0}};
	if (syscall(SYS_capset, &header, data))
		fail("capability", "sets");
}

static void become_service(void)
{
	gid_t groups[MOST_GROUPS];
	size_t at = 0, count = 0;
	uid_t uid = strtoul(only("uid"), NULL, 10);
	gid_t gid = strtoul(only("gid"), NULL, 10);
	for (char *group; count < MOST_GROUPS && (group = next("group", &at));)
		groups[count++] = strtoul(group, NULL, 10);
	limit(RLIMIT_NPROC, "processes");
	limit(RLIMIT_NOFILE, "files");
	if (setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}))
		fail("limit", "core");
	drop_bounding();
	if (setgroups(count, groups) || setresgid(gid, gid, gid))
		fail("become", "group");
	if (prctl(PR_SET_SECUREBITS, SECUREBITS_LOCKED, 0, 0, 0))
		fail("lock", "securebits");
	set_capabilities(1u << 7); /* CAP_SETUID alone, until the next line */
	if (setresuid(uid, uid, uid))
		fail("become", "user");
	set_capabilities(0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		fail("set", "no_new_privs");
}

static size_t words(const char *key, char **found)
{
	size_t at = 0, count = 0;
	while (count < MOST_WORDS && (found[count] = next(key, &at)))
		count++;
	found[count] = NULL;
	return count;
}

static void service(int output, struct filter *filter, sigset_t *mask)
{
	static char *arguments[MOST_WORDS + 1], *variables[MOST_WORDS + 1];
	int input = open("/dev/null", O_RDONLY);
	words("arg", arguments);
	words("env", variables);
	setsid();
	if (dup2(input, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0)
		fail("open", "output");
	if (input > 2)
		close(input);
	if (chdir(only("folder")))
		fail("folder", only("folder"));
	become_service();
	sigprocmask(SIG_SETMASK, mask, NULL);
	char *program = only("program");
	if (filter->length && prctl(PR_SET_SECCOMP, SECCOMP_FILTER, filter, 0, 0))
		fail("load", "filter");
	execve(program, arguments, variables);
	_exit(127); /* the parent tells of it: this process may no longer */
}

/* The filter's instructions, eight bytes each, read while its file is still there. */
static struct filter read_filter(void)
{
	static char program[4096 * 8];
	struct filter found = {0, program};
	int file = open(OWN "filter", O_RDONLY | O_CLOEXEC);
	ssize_t got = file < 0 ? -1 : read(file, program, sizeof program);
	if (got <= 0)
		fail("read", OWN "filter");
	close(file);
	found.length = got / 8;
	return found;
}

static ssize_t carry(int from)
{
	char part[4096];
	ssize_t got = read(from, part, sizeof part);
	for (ssize_t done = 0; done < got;) {
		ssize_t sent = write(console, part + done, got - done);
		if (sent <= 0)
			break;
		done += sent;
	}
	return got;
}

/* Output to the console, ended children collected, until the service itself has ended. */
static int attend(pid_t pid, int output, int signals)
{
	struct pollfd ready[2] = {{output, POLLIN, 0}, {signals, POLLIN, 0}};
	struct signalfd_siginfo came;
	int stop = atoi(only("stop"));
	for (;;) {
		if (poll(ready, 2, -1) < 0)
			continue;
		if (ready[0].revents & POLLIN)
			carry(output);
		else if (ready[0].revents)
			ready[0].fd = -1;
		if (!(ready[1].revents & POLLIN) || read(signals, &came, sizeof came) <= 0)
			continue;
		if (came.ssi_signo != SIGCHLD) {
			kill(pid, stop);
			continue;
		}
		int status, found = 0, last = 0;
		for (pid_t ended; (ended = waitpid(-1, &status, WNOHANG)) > 0;)
			if (ended == pid)
				found = 1, last = status;
		if (found) {
			fcntl(output, F_SETFL, O_NONBLOCK);
			while (carry(output) > 0)
				;
			return WIFEXITED(last) ? WEXITSTATUS(last) : 128 + WTERMSIG(last);
		}
	}
}

int main(void)
{
	int output[2];
	sigset_t wanted, former;
	system_folders();
	read_settings();
	load_modules();
	network();
	writable_folders();
	kernel_settings();
	struct filter filter = read_filter();
	remove_own();
	close_system();
	sigemptyset(&wanted);
	sigaddset(&wanted, SIGCHLD);
	sigaddset(&wanted, SIGINT); /* Ctrl-Alt-Del, once it no longer restarts the machine */
	sigaddset(&wanted, SIGTERM);
	sigprocmask(SIG_BLOCK, &wanted, &former);
	reboot(RB_DISABLE_CAD);
	int signals = signalfd(-1, &wanted, SFD_CLOEXEC);
	/* The service opens its output again by name (/dev/stdout): it must own the pipe. */
	if (signals < 0 || pipe2(output, O_CLOEXEC) ||
	    fchown(output[1], strtoul(only("uid"), NULL, 10), strtoul(only("gid"), NULL, 10)))
		fail("open", "output");
	pid_t pid = fork();
	if (pid < 0)
		fail("fork", "service");
	if (!pid)
		service(output[1], &filter, &former);
	close(output[1]);
	drop_bounding();
	set_capabilities(1u << CAP_KILL | 1u << CAP_NET_ADMIN | 1u << CAP_SYS_BOOT);
	int status = attend(pid, output[0], signals);
	say("ringfence init: the service ended with %d\n", status);
	power_off();
	return status;
}
