// SPDX-License-Identifier: Apache-2.0
//
// Internal to solver/: which arcs leave a part of a tree that spans a planar network.
//
// The arcs outside a spanning tree make a spanning tree of the faces of the drawing. Those with one end in
// the part that hangs by a tree arc are the way there between the two faces beside that arc: the curve around
// the part crosses them and no other. So they are found without a look at any node.
#pragma once

#include <cstdint>
#include <vector>

#include "perseus/solver/network.h"
#include "perseus/solver/planar.h"

namespace perseus::solver {

/// The tree of the faces. For one thread.
class FaceTree {
 public:
  /// `in_tree` per arc of the network; the arc that a drawing adds is taken to be in the tree. `faces` must
  /// outlive this.
  FaceTree(const Faces& faces, const std::vector<char>& in_tree);
  /// Appends the darts that leave the part which tree dart p leaves, but for p itself.
  void append_leaving(Dart p, std::vector<Dart>& darts);
  /// Tree dart p was replaced by d, one of those that append_leaving(p) finds.
  void exchange(Dart p, Dart d);

 private:
  struct Face {
    Dart up = kNoDart;  ///< beside this face, and its reverse beside the parent
    FaceId parent = kNoFace;
    std::uint32_t mark = 0;
  };
  static constexpr FaceId kNoFace = 0xffffffff;
  static constexpr std::uint32_t kLastStamp = 0xfffffff0;
  void hang(FaceId face, Dart up);

  const std::vector<FaceId>& beside_;
  std::vector<Face> face_;
  std::uint32_t stamp_ = 0;
  std::vector<Dart> back_;  ///< of append_leaving
};

}  // namespace perseus::solver
