process.on('message', message => process.send({ double: 2 * message.number }));
