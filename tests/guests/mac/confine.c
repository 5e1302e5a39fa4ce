/* Started by Ringfence's init as the service's user, filtered and without privileges: says under
 * which domain the next program is to run, and starts it. The first two words of the environment
 * are for it: RF_WORD=what to write to /proc/self/attr/exec (nothing if empty), RF_PROGRAM=path. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int count, char **arguments, char **variables)
{
	const char *word = variables[0] + strlen("RF_WORD=");
	const char *program = variables[1] + strlen("RF_PROGRAM=");
	(void)count;
	if (*word) {
		int file = syscall(SYS_openat, AT_FDCWD, "/proc/self/attr/exec", O_WRONLY | O_CLOEXEC);
		if (file < 0 || write(file, word, strlen(word)) < 0)
			return 100;
	}
	execve(program, arguments, variables + 2);
	return 101;
}
