// SPDX-License-Identifier: Apache-2.0
//
// A vendor's library that is loaded while the program runs, and let go of again.
//
//   PERSEUS_ASSIGN_OR_RETURN(auto library, SharedLibrary::open("libnvidia-ml.so.1"));
//   auto* init = library.function<int()>("nvmlInit_v2");   // nullptr: this version has no such function
#pragma once

#include <string>
#include <utility>

#include "perseus/core/result.h"

namespace perseus::gpu {

/// Owns one dlopen() handle; closes it in the destructor. Functions taken from it are dead afterwards.
/// Moving leaves an empty one, which has no function. Thread-safe as far as const functions go.
class SharedLibrary {
 public:
  SharedLibrary() = default;
  SharedLibrary(SharedLibrary&& other) noexcept
      : path_(std::move(other.path_)), handle_(std::exchange(other.handle_, nullptr)) {}
  SharedLibrary& operator=(SharedLibrary&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  SharedLibrary(const SharedLibrary&) = delete;
  SharedLibrary& operator=(const SharedLibrary&) = delete;
  ~SharedLibrary();

  /// `path` is a file, or a bare name that the dynamic loader looks for where it is told to (LD_LIBRARY_PATH,
  /// its cache, the system's folders). kNotFound with the loader's own words.
  [[nodiscard]] static core::Result<SharedLibrary> open(const std::string& path);

  [[nodiscard]] const std::string& path() const { return path_; }
  /// The function `name`, whose type the caller vouches for; nullptr if there is none.
  template <class F>
  [[nodiscard]] F* function(const char* name) const {
    return reinterpret_cast<F*>(symbol(name));
  }

 private:
  SharedLibrary(std::string path, void* handle) : path_(std::move(path)), handle_(handle) {}
  [[nodiscard]] void* symbol(const char* name) const;

  std::string path_;
  void* handle_ = nullptr;
};

}  // namespace perseus::gpu
