# The compiler and two folders of headers, without any tool.
cmake_minimum_required(VERSION 3.20)
include(${CMAKE_CURRENT_LIST_DIR}/support.cmake)

run(${COMPILER} -std=c++20 -I ${SOURCE}/include -I ${EIGEN_INCLUDE}
    ${CMAKE_CURRENT_LIST_DIR}/main.cpp -o ${here}/my_program)
run_program(${here}/my_program)
file(WRITE ${PLAIN_OUTPUT} "${output}")
