/* A server on port 8080 that says what it is and what it may do: one line a try, 0 or the errno.
 * What and the answer are apart by a tab. Tries that would change something are made such that they do not where they succeed. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static char page[16384];
static size_t used;

static void add(const char *what, long result)
{
	int number = result < 0 ? errno : 0;
	used += snprintf(page + used, sizeof page - used, "%s\t%s\n", what, number ? strerror(number) : "done");
}

static void opened(const char *path, int flags)
{
	char what[256], some;
	snprintf(what, sizeof what, "%s %s", flags & O_WRONLY ? "write" : "read", path);
	int file = open(path, flags, 0600);
	if (file >= 0 && !(flags & O_WRONLY) && !read(file, &some, 1))
		used += snprintf(page + used, sizeof page - used, "%s\tnothing there\n", what);
	else
		add(what, file);
	if (file >= 0)
		close(file);
}

static void copied(const char *path)
{
	char part[4096];
	int file = open(path, O_RDONLY);
	ssize_t got = file < 0 ? -1 : read(file, part, sizeof part - 1);
	if (file >= 0)
		close(file);
	part[got > 0 ? got : 0] = 0;
	used += snprintf(page + used, sizeof page - used, "%s", part);
}

static void executed(const char *path)
{
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700);
	if (file >= 0 && write(file, "#!/\n", 4) == 4)
		fchmod(file, 0700);
	if (file >= 0)
		close(file);
	execl(path, path, (char *)0);
	add("execute what was written", -1);
}

static void state(void)
{
	used = 0;
	copied("/proc/self/status");
	copied("/proc/self/mountinfo");
	copied("/proc/sys/kernel/hostname");
	copied("/proc/sys/kernel/modules_disabled");
	add("setuid(0)", setuid(0));
	int packets = socket(AF_PACKET, SOCK_RAW, 0);
	add("socket(AF_PACKET)", packets);
	if (packets >= 0)
		close(packets);
	add("kill(1, 0)", kill(1, 0));
	add("find /.ringfence", access("/.ringfence", F_OK));
	add("find /proc/1/status", access("/proc/1/status", F_OK));
	opened("/bin/server", O_WRONLY);
	opened("/new", O_WRONLY | O_CREAT | O_EXCL);
	opened("/var/place/new", O_WRONLY | O_CREAT);
	opened("/dev/new", O_WRONLY | O_CREAT | O_EXCL);
	opened("/dev/console", O_WRONLY);
	opened("/dev/null", O_WRONLY);
	opened("/dev/stdout", O_WRONLY);
	opened("/proc/sys/kernel/hostname", O_WRONLY);
	opened("/proc/kcore", O_RDONLY);
	executed("/var/place/program");
}

static void end(int number)
{
	_exit(number - SIGTERM);
}

int main(void)
{
	int yes = 1, door = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(8080)};
	char asked[4096], head[128];
	signal(SIGTERM, end);
	setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (bind(door, (struct sockaddr *)&here, sizeof here) || listen(door, 16))
		return 1;
	for (int peer; (peer = accept(door, 0, 0)) >= 0; close(peer)) {
		ssize_t got = read(peer, asked, sizeof asked - 1);
		asked[got > 0 ? got : 0] = 0;
		if (!strncmp(asked, "GET /state ", 11))
			state();
		else
			used = snprintf(page, sizeof page, "hello\n");
		if (!strncmp(asked, "GET /end ", 9))
			return 7;
		snprintf(head, sizeof head, "HTTP/1.0 200 OK\r\nContent-Length: %zu\r\n\r\n", used);
		if (write(peer, head, strlen(head)) < 0 || write(peer, page, used) < 0)
			continue;
		shutdown(peer, SHUT_WR);
		while (read(peer, asked, sizeof asked) > 0) /* a body that came late */
			;
	}
	return 0;
}
