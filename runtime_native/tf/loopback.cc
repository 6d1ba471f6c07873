// libmpcc_loopback.so: for LD_PRELOAD. TensorFlow's servers listen on every address of the machine,
// whatever the ClusterSpec says; in a process with this library a socket that is to be bound to all
// addresses is bound to loopback, and nothing else changes. Whoever preloads it looks afterwards
// where the process listens (mpcc/runtime/exposure.py): a preload that did not work is
// no silent one.
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

extern "C" __attribute__((visibility("default"))) int bind(int fd, const sockaddr* address,
                                                           socklen_t size) noexcept {
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  if (address != nullptr && address->sa_family == AF_INET && size >= sizeof v4) {
    std::memcpy(&v4, address, sizeof v4);
    if (v4.sin_addr.s_addr == htonl(INADDR_ANY)) {
      v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      return static_cast<int>(syscall(SYS_bind, fd, &v4, sizeof v4));
    }
  }
  if (address != nullptr && address->sa_family == AF_INET6 && size >= sizeof v6) {
    std::memcpy(&v6, address, sizeof v6);
    if (IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr)) {
      // Of both families: such a socket takes IPv4's loopback in the mapped form.
      v6.sin6_addr.s6_addr[10] = v6.sin6_addr.s6_addr[11] = 0xff;
      v6.sin6_addr.s6_addr[12] = 127;
      v6.sin6_addr.s6_addr[15] = 1;
      return static_cast<int>(syscall(SYS_bind, fd, &v6, sizeof v6));
    }
  }
  return static_cast<int>(syscall(SYS_bind, fd, address, size));
}
