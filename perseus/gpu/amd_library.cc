// SPDX-License-Identifier: Apache-2.0
#include "perseus/gpu/amd_library.h"

#include <fmt/format.h>

#include <utility>

#include "perseus/gpu/device_text.h"

namespace perseus::gpu {

using core::ErrorCode;

ErrorCode amd_error_code(amd::Status status, bool device_call) {
  switch (status) {
    case amd::kNotSupported:
    case amd::kNotYetImplemented:
    case amd::kNoData:
    case amd::kSettingUnavailable:
      return ErrorCode::kUnsupported;
    case amd::kNoPermission:
      return ErrorCode::kPermission;
    case amd::kNotFound:
      return device_call ? ErrorCode::kDeviceLost : ErrorCode::kNotFound;
    default:
      return ErrorCode::kDriver;
  }
}

template <class F>
void AmdLibrary::find(AmdFunction<F>& function) {
  function.call = library_.function<F>(function.name);
}

AmdLibrary::AmdLibrary(SharedLibrary library) : library_(std::move(library)) {
  find(api_.init);
  find(api_.shut_down);
  find(api_.version);
  find(api_.sockets);
  find(api_.processors);
  find(api_.processor_type);
  find(api_.uuid);
  find(api_.status_text);
  find(api_.bdf);
  find(api_.asic_info);
  find(api_.frequencies);
  find(api_.clock_info);
  find(api_.set_clock_limit);
  find(api_.set_perf_level);
  find(api_.power_info);
  find(api_.energy);
  find(api_.temperature);
  find(api_.usage);
  find(api_.power_cap);
  find(api_.processes);
  find(api_.virtualization);
}

core::Result<std::unique_ptr<AmdLibrary>> AmdLibrary::open(const std::string& path) {
  PERSEUS_ASSIGN_OR_RETURN(auto library, SharedLibrary::open(path));
  std::unique_ptr<AmdLibrary> smi(new AmdLibrary(std::move(library)));
  PERSEUS_RETURN_IF_ERROR(smi->require());
  PERSEUS_RETURN_IF_ERROR(smi->recognise());
  PERSEUS_RETURN_IF_ERROR(smi->check(smi->api_.init.call(amd::kInitGpus), smi->api_.init.name, path));
  smi->started_ = true;
  return smi;
}

core::Status AmdLibrary::require() const {
  const std::array<std::pair<const char*, bool>, 7> needed = {{
      {api_.init.name, bool{api_.init}},
      {api_.shut_down.name, bool{api_.shut_down}},
      {api_.version.name, bool{api_.version}},
      {api_.sockets.name, bool{api_.sockets}},
      {api_.processors.name, bool{api_.processors}},
      {api_.processor_type.name, bool{api_.processor_type}},
      {api_.uuid.name, bool{api_.uuid}},
  }};
  for (const auto& [name, there] : needed) {
    if (there) continue;
    return core::fail(
        ErrorCode::kUnsupported,
        fmt::format("{}: this library has no function {}, so it is no AMD SMI that Perseus can use", path(),
                    name));
  }
  return {};
}

core::Status AmdLibrary::recognise() {
  amd::Version version{};
  PERSEUS_RETURN_IF_ERROR(check(api_.version.call(&version), api_.version.name, path()));
  const auto& n = version.number;
  version_ = fmt::format("{}.{}.{}", n[0], n[1], n[2]);
  if (n[0] == 24 && n[1] == 7) {
    layout_ = &amd::kRocm63;
  } else if (n[0] == 25 || n[0] == 26) {
    layout_ = &amd::kRocm64;
  } else {
    return core::fail(
        ErrorCode::kUnsupported,
        fmt::format("{}: AMD SMI {} is not known to Perseus, whose structures may differ; known are "
                    "24.7 (ROCm 6.3), 25 (ROCm 6.4) and 26 (ROCm 7.0 to 7.2)",
                    path(), version_));
  }
  thread_safe_ = n[0] == 26 && n[1] >= 2;
  return {};
}

AmdLibrary::~AmdLibrary() {
  if (started_) api_.shut_down.call();
}

core::Status AmdLibrary::check(amd::Status status, const char* name, const std::string& subject) const {
  if (status == amd::kSuccess) return {};
  const char* words = nullptr;
  if (!api_.status_text || api_.status_text.call(status, &words) != amd::kSuccess) words = nullptr;
  const ErrorCode meaning = amd_error_code(status, subject != path());
  constexpr std::size_t kLongestWords = 200;  // bytes; AMD SMI's own are shorter than 120
  std::string text =
      fmt::format("{}: {}: {} (AMD SMI status {})", subject, name,
                  words != nullptr ? printable(words, kLongestWords) : "no words for it", status);
  if (meaning == ErrorCode::kPermission) text += "; let `perseus agent` do it, which runs with the right to";
  return core::fail(meaning, std::move(text));
}

}  // namespace perseus::gpu
