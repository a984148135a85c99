// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/shared_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

namespace perseus::gpu {

core::Result<SharedLibrary> SharedLibrary::open(const std::string& path) {
  // RTLD_LOCAL: two vendors' libraries must not see each other's symbols. RTLD_NOW: what is missing shows
  // here and not in the middle of a call.
  void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle != nullptr) return SharedLibrary(path, handle);
  const char* why = ::dlerror();  // NOLINT(concurrency-mt-unsafe): glibc keeps it per thread
  const std::string_view where =
      path.find('/') == std::string::npos
          ? " (looked for in LD_LIBRARY_PATH, the loader's cache and the system's library folders)"
          : "";
  return core::fail(core::ErrorCode::kNotFound,
                    fmt::format("{}{}", why != nullptr ? why : path.c_str(), where));
}

SharedLibrary::~SharedLibrary() {
  if (handle_ != nullptr) ::dlclose(handle_);
}

void* SharedLibrary::symbol(const char* name) const {
  return handle_ != nullptr ? ::dlsym(handle_, name) : nullptr;
}

}  // namespace perseus::gpu
