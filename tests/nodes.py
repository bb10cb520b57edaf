"""A Ray cluster of three one-CPU nodes, for tests of lost nodes: prints its address, obeys add and remove."""

import sys

from ray.cluster_utils import Cluster


def main():
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    print(cluster.address, flush=True)
    for line in sys.stdin:
        what = line.strip()
        if what == "add":
            nodes.append(cluster.add_node(num_cpus=1))
            cluster.wait_for_nodes()
            print("added", flush=True)
        elif what == "remove":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            print("removed", flush=True)
    cluster.shutdown()


main()
