// Writes the records of standard input (a JSON list of {key, value, headers}) one by one with kafkajs and
// prints the partition of each as a JSON list. Usage: node write.js BROKERS TOPIC
const { Kafka, Partitioners, logLevel } = require("kafkajs");

async function main(brokers, topic, records) {
  const kafka = new Kafka({ brokers: brokers.split(","), logLevel: logLevel.ERROR });
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
  await producer.connect();
  const partitions = [];
  for (const { key, value, headers } of records) {
    const messages = [{ key, value: Buffer.from(value, "base64"), headers }];
    const [written] = await producer.send({ topic, messages });
    partitions.push(written.partition);
  }
  await producer.disconnect();
  console.log(JSON.stringify(partitions));
}

const input = require("fs").readFileSync(0, "utf8");
main(process.argv[2], process.argv[3], JSON.parse(input)).catch((error) => {
  console.error(error);
  process.exit(1);
});
