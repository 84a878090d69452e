#include "state_matrix.hpp"

TEST_CASE("The reference's DDIM in every kind of state of floats") {
  state_matrix::follow_every_kind<float>();
}
