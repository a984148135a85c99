// SPDX-License-Identifier: Apache-2.0
#include "perseus/client/clock_link.h"

#include <unistd.h>

#include <utility>

#include "perseus/client/link_thread.h"

namespace perseus::client {

ClockLink::ClockLink(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

ClockLink::~ClockLink() {
  // A fork has neither the thread nor a right to what is in there: nothing can be taken apart safely.
  if (impl_ && impl_->in_child()) static_cast<void>(impl_.release());
}

core::Result<std::unique_ptr<ClockLink>> ClockLink::open(std::unique_ptr<Endpoint> endpoint,
                                                         ClockLinkOptions options, wire::Deadline deadline) {
  PERSEUS_ASSIGN_OR_RETURN(auto self, lease::ProcessHandle::open(::getpid()));
  auto impl = std::make_unique<Impl>(std::move(endpoint), std::move(options), std::move(self));
  PERSEUS_RETURN_IF_ERROR(impl->start(deadline));
  return std::unique_ptr<ClockLink>(new ClockLink(std::move(impl)));
}

std::vector<wire::AgentGpu> ClockLink::gpus() const {
  return impl_->gpus();
}
std::string ClockLink::peer() const {
  return impl_->peer();
}
core::Result<ClockHold*> ClockLink::acquire(const std::string& gpu, const std::string& job,
                                            wire::Deadline deadline) {
  return impl_->acquire(gpu, job, deadline);
}
core::Status ClockLink::release(ClockHold& hold, wire::Deadline deadline) {
  return impl_->release(hold, deadline);
}
core::Result<wire::AgentReply> ClockLink::request(const wire::AgentRequest& request,
                                                  wire::Deadline deadline) {
  return impl_->request(request, deadline);
}
bool ClockLink::connected() const {
  return impl_->connected();
}

}  // namespace perseus::client
