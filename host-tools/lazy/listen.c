#include "host-tools/lazy/listen.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* --- Unix sockets --- */

/* Whether there is a socket at ADDRESS whose listener has gone. */
static bool is_stale(const struct sockaddr_un *address)
{
	struct stat status;
	int fd;

	if (lstat(address->sun_path, &status) || !S_ISSOCK(status.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	bool refused = connect(fd, (const struct sockaddr *)address, sizeof(*address)) &&
		       errno == ECONNREFUSED;
	close(fd);
	return refused;
}

static int bind_unix(int fd, const struct sockaddr_un *address)
{
	mode_t mask = umask(0177);
	int failed = bind(fd, (const struct sockaddr *)address, sizeof(*address));

	if (failed && errno == EADDRINUSE && is_stale(address)) {
		unlink(address->sun_path);
		failed = bind(fd, (const struct sockaddr *)address, sizeof(*address));
	}
	umask(mask);
	return failed;
}

/* Adds PATH to the URI, what is not plain in it as %XX. */
static void add_escaped(char *uri, size_t size, const char *path)
{
	size_t used = strlen(uri);

	for (; *path && used + 4 < size; path++) {
		bool plain = isalnum((unsigned char)*path) || strchr("/-._~", *path);

		used += (size_t)snprintf(uri + used, size - used, plain ? "%c" : "%%%02X",
					 (unsigned char)*path);
	}
}

static int listen_unix(const char *path, bool tls, struct listening *listening, struct error *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char full[PATH_MAX];

	if (!*path || strlen(path) >= sizeof(address.sun_path))
		return error_set(error, "'%s' cannot be a socket: 1 to %zu bytes", path,
				 sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, strlen(path));
	listening->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listening->fd < 0)
		return error_errno(error, "make a socket");
	if (bind_unix(listening->fd, &address))
		return error_errno(error, "make the socket %s", path);
	/* Where it is found at the end, too. */
	snprintf(listening->socket, sizeof(listening->socket), "%s",
		 realpath(path, full) ? full : path);
	if (listen(listening->fd, SOMAXCONN))
		return error_errno(error, "listen on %s", path);
	snprintf(listening->uri, sizeof(listening->uri), "nbd%s+unix:///?socket=", tls ? "s" : "");
	add_escaped(listening->uri, sizeof(listening->uri), listening->socket);
	return 0;
}

/* --- TCP --- */

static bool is_loopback(const struct sockaddr *address)
{
	const struct in6_addr *v6 =
		&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
	const struct in_addr *v4 = &((const struct sockaddr_in *)(const void *)address)->sin_addr;

	if (address->sa_family == AF_INET)
		return ntohl(v4->s_addr) >> 24 == 127;
	if (address->sa_family != AF_INET6)
		return false;
	return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
}

static int bind_tcp(int fd, const struct addrinfo *address)
{
	int on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)))
		return -1;
	return bind(fd, address->ai_addr, address->ai_addrlen) || listen(fd, SOMAXCONN) ? -1 : 0;
}

/* The port that it was given where it asked for any (0). */
static int tell_tcp(const char *host, bool tls, struct listening *listening, struct error *error)
{
	struct sockaddr_storage bound;
	socklen_t size = sizeof(bound);
	char port[NI_MAXSERV], any[256];

	if (getsockname(listening->fd, (struct sockaddr *)&bound, &size) ||
	    getnameinfo((struct sockaddr *)&bound, size, NULL, 0, port, sizeof(port),
			NI_NUMERICSERV))
		return error_set(error, "cannot find the port of %s", host);
	if (gethostname(any, sizeof(any)))
		snprintf(any, sizeof(any), "localhost");
	any[sizeof(any) - 1] = '\0';
	snprintf(listening->uri, sizeof(listening->uri),
		 strchr(host, ':') ? "nbd%s://[%s]:%s" : "nbd%s://%s:%s", tls ? "s" : "",
		 *host ? host : any, port);
	return 0;
}

static int listen_on_first(const struct addrinfo *addresses, const char *host, bool tls,
			   struct listening *listening, struct error *error)
{
	for (const struct addrinfo *address = addresses; address; address = address->ai_next) {
		if (!tls && !is_loopback(address->ai_addr))
			return error_set(error,
					 "'%s' can be reached from elsewhere: --tls-certificates "
					 "is needed there",
					 host);
		listening->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (bind_tcp(listening->fd, address) == 0)
			return tell_tcp(host, tls, listening, error);
		error_errno(error, "listen on %s", host);
		if (listening->fd >= 0)
			close(listening->fd);
		listening->fd = -1;
	}
	return -1;
}

static int listen_tcp(const char *text, bool tls, struct listening *listening, struct error *error)
{
	const struct addrinfo wanted = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	struct addrinfo *addresses;
	char host[NI_MAXHOST];
	const char *colon = strrchr(text, ':'), *start = text;
	size_t length = colon ? (size_t)(colon - text) : 0;

	if (!colon || !colon[1] || length >= sizeof(host))
		return error_set(error, "'%s' is neither unix:PATH nor HOST:PORT", text);
	if (length >= 2 && text[0] == '[' && colon[-1] == ']') {
		start++;
		length -= 2;
	} else if (memchr(text, ':', length)) {
		return error_set(error, "'%s': put the address into brackets, as in [::1]:10809",
				 text);
	}
	snprintf(host, sizeof(host), "%.*s", (int)length, start);

	int code = getaddrinfo(*host ? host : NULL, colon + 1, &wanted, &addresses);

	if (code)
		return error_set(error, "'%s': %s", text, gai_strerror(code));
	int failed = listen_on_first(addresses, host, tls, listening, error);
	freeaddrinfo(addresses);
	return failed;
}

int listen_on(const char *address, bool tls, struct listening *listening, struct error *error)
{
	*listening = (struct listening){.fd = -1};

	int failed = strncmp(address, "unix:", strlen("unix:")) == 0
			     ? listen_unix(address + strlen("unix:"), tls, listening, error)
			     : listen_tcp(address, tls, listening, error);

	if (failed)
		listen_end(listening);
	return failed;
}

void listen_end(struct listening *listening)
{
	if (listening->socket[0])
		unlink(listening->socket);
	if (listening->fd >= 0)
		close(listening->fd);
	*listening = (struct listening){.fd = -1};
}
