// SPDX-License-Identifier: Apache-2.0
#include "perseus/format/unique_fd.h"

#include <unistd.h>

#include <cerrno>

namespace perseus::format {

void UniqueFd::reset(int fd) {
  const int old = std::exchange(fd_, fd < 0 ? -1 : fd);
  if (old < 0) return;
  const int saved = errno;  // so that a caller can report what failed before
  ::close(old);             // never repeated: Linux frees the descriptor even when it answers EINTR
  errno = saved;
}

}  // namespace perseus::format
