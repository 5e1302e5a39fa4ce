/* Before Ringfence's own init: loads a policy, tries acts under it, and goes on to that init.
 *
 * /mac/policy is a compiled AppArmor profile, SELinux policy or IMA rules: rf_mac of the kernel's
 * command line says which. /mac/labels: lines CONTEXT TAB PATH. /mac/domain: the profile or context
 * for the acts, each told on the console as "act NAME: RESULT". */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LIST "/sys/kernel/security/ima/ascii_runtime_measurements"
#define MOST_RESULTS 4096
static char *results;
static char policy[32 << 20], text[1 << 20];

static void say(const char *form, ...)
{
	char line[8192];
	va_list words;
	va_start(words, form);
	int length = vsnprintf(line, sizeof line, form, words);
	va_end(words);
	if (length > 0 && write(1, line, length) < 0)
		return;
}

static void check(int failed, const char *what)
{
	if (!failed)
		return;
	say("mac init: %s: %s\n", what, strerror(errno));
	reboot(RB_POWER_OFF);
}

static ssize_t whole(const char *path, char *to, size_t most)
{
	ssize_t got = 0, part;
	int file = open(path, O_RDONLY);
	check(file < 0, path);
	while ((part = read(file, to + got, most - got)) > 0)
		got += part;
	close(file);
	return got;
}

/* AppArmor and SELinux take a policy in one write, IMA a rule with each. */
static void put(const char *path, const char *data, ssize_t length)
{
	int file = open(path, O_WRONLY);
	check(file < 0, path);
	for (ssize_t done = 0, part; done < length; done += part) {
		part = write(file, data + done, length - done);
		check(part <= 0, path);
	}
	close(file);
}

static void label(void)
{
	ssize_t got = whole("/mac/labels", text, sizeof text - 1);
	text[got] = 0;
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		char *path = strchr(line, '\t');
		*path++ = 0;
		check(lsetxattr(path, "security.selinux", line, strlen(line) + 1, 0), path);
	}
}

/* Under a policy the console is out of reach: results are left in memory that is shared. */
static void act(const char *name, long result)
{
	size_t used = strlen(results);
	snprintf(results + used, MOST_RESULTS - used, "act %s: %s\n", name,
		 result < 0 ? strerror(errno) : "done");
}

static void opened(const char *name, const char *path, int flags)
{
	act(name, open(path, flags, 0600));
}

static void acts(const char *domain)
{
	char word[256];
	opened("read its configuration", "/etc/nginx/nginx.conf", O_RDONLY);
	opened("write where it may", "/var/lib/nginx/new", O_WRONLY | O_CREAT);
	opened("read a file that is not its own", "/mac/secret", O_RDONLY);
	opened("write its configuration", "/etc/nginx/nginx.conf", O_WRONLY);
	opened("make a file beside its program", "/usr/sbin/new", O_WRONLY | O_CREAT);
	act("make a device", mknod("/var/lib/nginx/disk", S_IFBLK | 0600, makedev(8, 0)));
	act("mount", mount("none", "/mnt", "tmpfs", 0, NULL));
	act("packet socket", socket(AF_PACKET, SOCK_RAW, 0));
	act("become another user", setuid(65000));
	snprintf(word, sizeof word, "%s", domain);
	execl("/mac/confine", "confine", (char *)0);
	act("execute a program that is not its own", -1);
}

static void in_domain(const char *mac)
{
	char domain[256], word[300];
	ssize_t got = whole("/mac/domain", domain, sizeof domain - 1);
	domain[got] = 0;
	if (!strcmp(mac, "apparmor"))
		got = snprintf(word, sizeof word, "changeprofile %s", domain);
	else
		got = snprintf(word, sizeof word, "%s", domain) + 1;
	if (strcmp(mac, "none"))
		put("/proc/self/attr/current", word, got);
	acts(domain);
}

/* What IMA has measured of the service, once it runs. */
static void measured(int file)
{
	for (int tries = 0; tries < 200; tries++, usleep(50000)) {
		ssize_t got = 0, part;
		lseek(file, 0, SEEK_SET);
		while ((part = read(file, text + got, sizeof text - 1 - got)) > 0)
			got += part;
		text[got] = 0;
		if (!strstr(text, "/usr/sbin/nginx"))
			continue;
		for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
			say("measured %s\n", line);
		_exit(0);
	}
	_exit(1);
}

int main(void)
{
	const char *mac = getenv("rf_mac");
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	check(mount("proc", "/proc", "proc", 0, NULL), "/proc");
	check(mount("sysfs", "/sys", "sysfs", 0, NULL), "/sys");
	check(mount("securityfs", "/sys/kernel/security", "securityfs", 0, NULL), "securityfs");
	ssize_t length = strcmp(mac, "none") ? whole("/mac/policy", policy, sizeof policy) : 0;
	if (!strcmp(mac, "apparmor"))
		put("/sys/kernel/security/apparmor/.replace", policy, length);
	if (!strcmp(mac, "ima")) {
		put("/sys/kernel/security/ima/policy", policy, length);
		int list = open(LIST, O_RDONLY); /* it will be out of sight soon */
		check(list < 0, LIST);
		if (!fork())
			measured(list);
		close(list);
	}
	if (!strcmp(mac, "selinux")) {
		check(mount("selinuxfs", "/sys/fs/selinux", "selinuxfs", 0, NULL), "selinuxfs");
		put("/sys/fs/selinux/load", policy, length);
		label();
		check(umount("/sys/fs/selinux"), "selinuxfs");
	}
	put("/proc/sys/kernel/printk_ratelimit", "0", 1); /* every denial is to be seen */
	if (strcmp(mac, "ima")) {
		/* Only the policy is to stand in the way: not that root needs a capability here. */
		mkdir("/mnt", 0755);
		check(chmod("/var/lib/nginx", 0777), "/var/lib/nginx");
		results = mmap(NULL, MOST_RESULTS, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		check(results == MAP_FAILED, "memory");
		pid_t pid = fork();
		if (!pid) {
			in_domain(mac);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
		say("%s", results);
		umount("/mnt");
		rmdir("/mnt");
		check(chmod("/var/lib/nginx", 0750), "/var/lib/nginx");
	}
	unlink("/var/lib/nginx/new");
	unlink("/var/lib/nginx/disk");
	unlink("/usr/sbin/new");
	umount2("/sys/kernel/security", MNT_DETACH);
	check(umount("/sys") || umount("/proc"), "umount");
	execl("/.ringfence/init", "init", (char *)0);
	check(1, "/.ringfence/init");
}
