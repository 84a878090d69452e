# find_package from an installed tree that was moved, and the versions that it accepts.
cmake_minimum_required(VERSION 3.20)
include(${CMAKE_CURRENT_LIST_DIR}/support.cmake)

make_project(find_package)
build_project(-D CMAKE_PREFIX_PATH=${PREFIX} ${EIGEN_DIR})
expect_plain_compile_commands()
run_program(${here}/bin/my_program)

run(${CMAKE_COMMAND} -G ${GENERATOR} -D CMAKE_MAKE_PROGRAM=${MAKE_PROGRAM}
    -S ${CMAKE_CURRENT_LIST_DIR}/versions -B ${here}/versions
    -D VERSION=${VERSION} -D CMAKE_PREFIX_PATH=${PREFIX} ${EIGEN_DIR})
