// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/planar.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

namespace perseus::solver {
namespace {

/// Only ends matter here. Source and sink are the first and the last node.
Network network(NodeId nodes, std::vector<std::pair<NodeId, NodeId>> arcs) {
  Network made;
  made.nodes = nodes;
  made.source = 0;
  made.sink = nodes - 1;
  for (const auto& [tail, head] : arcs) made.arcs.push_back({tail, head, 0});
  return made;
}

std::vector<std::pair<NodeId, NodeId>> complete(NodeId nodes) {
  std::vector<std::pair<NodeId, NodeId>> arcs;
  for (NodeId u = 0; u < nodes; ++u) {
    for (NodeId v = u + 1; v < nodes; ++v) arcs.emplace_back(u, v);
  }
  return arcs;
}

/// A grid whose squares have one diagonal each, either way.
std::vector<std::pair<NodeId, NodeId>> triangles(NodeId side, std::mt19937& random) {
  std::vector<std::pair<NodeId, NodeId>> arcs;
  for (NodeId y = 0; y < side; ++y) {
    for (NodeId x = 0; x < side; ++x) {
      const NodeId v = y * side + x;
      if (x + 1 < side) arcs.emplace_back(v, v + 1);
      if (y + 1 < side) arcs.emplace_back(v, v + side);
      if (x + 1 == side || y + 1 == side) continue;
      if (random() % 2 == 0) {
        arcs.emplace_back(v, v + side + 1);
      } else {
        arcs.emplace_back(v + 1, v + side);
      }
    }
  }
  std::ranges::shuffle(arcs, random);
  return arcs;
}

TEST(Draw, ATriangleHasTwoFacesAndTheAddedArcOne) {
  const Faces faces = draw(network(3, complete(3)));
  EXPECT_EQ(faces.count, 3u);  // the arc back from sink to source runs beside the one there is
  EXPECT_EQ(faces.beside.size(), 8u);
}

TEST(Draw, FourNodesCanBeDrawnFiveCannot) {
  EXPECT_EQ(draw(network(4, complete(4))).count, 5u);
  EXPECT_EQ(draw(network(5, complete(5))).count, 0u);
}

TEST(Draw, ThreeHousesAndThreeWellsCannotBeDrawn) {
  std::vector<std::pair<NodeId, NodeId>> arcs;
  for (NodeId house = 0; house < 3; ++house) {
    for (NodeId well = 3; well < 6; ++well) arcs.emplace_back(house, well);
  }
  EXPECT_EQ(draw(network(6, arcs)).count, 0u);
  arcs.erase(arcs.begin() + 2);  // 0 to 5, which the added arc stands for
  EXPECT_EQ(draw(network(6, arcs)).count, 0u);
  arcs.pop_back();
  EXPECT_GT(draw(network(6, arcs)).count, 0u);
}

TEST(Draw, GridsCanBeDrawnUntilTheyAreTiedAcross) {
  std::mt19937 random(7);
  for (NodeId side = 2; side < 20; ++side) {
    auto arcs = triangles(side, random);
    const Faces faces = draw(network(side * side, arcs));
    EXPECT_EQ(faces.count, arcs.size() + 1 + 2 - side * side);
    if (side < 5) continue;
    // An arc between two inner nodes that share no triangle, and parallel ones, which do no harm.
    arcs.push_back(arcs.front());
    EXPECT_GT(draw(network(side * side, arcs)).count, 0u);
    arcs.emplace_back(side + 1, 3 * side + 3);
    EXPECT_EQ(draw(network(side * side, arcs)).count, 0u);
  }
}

TEST(Draw, EveryFaceIsGoneRoundOnce) {
  std::mt19937 random(3);
  const auto arcs = triangles(9, random);
  const Faces faces = draw(network(81, arcs));
  std::vector<int> length(faces.count, 0);
  for (const FaceId f : faces.beside) ++length[f];
  // 128 triangles; the outer face of 32 sides, which the added arc cuts in two of 17.
  EXPECT_EQ(std::ranges::count(length, 3), 128);
  EXPECT_EQ(std::ranges::count(length, 17), 2);
  EXPECT_EQ(faces.count, 130u);
}

}  // namespace
}  // namespace perseus::solver
